// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// clusterFile names the file in which the cluster lives, for the test binary when it is called kubectl.
const clusterFile = "ROLLOUT_TEST_CLUSTER"

const namespace, configMap, key = "observability", "otel-collector-config", "config.yaml"

// cluster is what kubectl talks to: one ConfigMap, the pods that mount it, and what goes wrong.
type cluster struct {
	Version int               // resourceVersion of the ConfigMap
	Data    map[string]string // its keys
	Pods    []*pod            // in ordinal order
	Current int               // revision of the StatefulSet
	Calls   []string          // one line for each call of kubectl
	// Meddle: somebody else writes the ConfigMap right after it was read.
	Meddle bool
	// FailPatches are the patches, counted from 1, that the server refuses; LosePatches are done, and then fail.
	FailPatches, LosePatches []int
	Patches                  int
	// Unhealthy: no backend answers any pod; their status says so.
	Unhealthy bool
	// Hung is a pipe that gets a line when a reload hangs; Told counts those that were told to end.
	Hung string
	Told int
}

type pod struct {
	Name     string
	Text     string // runs this; "" = does not answer
	Good     string // last known good
	Ready    bool
	Revision int
	Deleted  int
}

// What a text does to the pod that gets it stands in it, as a comment.
const (
	invalid   = "# invalid"           // no pod would run it
	rejectIn  = "# reject in "        // + pod: reload exits 1
	undoIn    = "# roll back in "     // + pod: reload exits 2
	hangIn    = "# hang in "          // + pod: reload does not come back
	bootsGood = "# not at boot"       // a start with it runs the last good one, and is ready
	breaks    = "# never ready"       // a start with it ends
	noReloads = "# out of reach for " // + pod: reload exits 4
)

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "kubectl":
		os.Exit(kubectl(os.Args[1:]))
	case "holdfast":
		os.Exit(validate(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// validate is the holdfast of the person who rolls out.
func validate(args []string) int {
	if len(args) != 4 || args[0] != "validate" || args[1] != "--portable" || args[2] != "--config" {
		fmt.Fprintln(os.Stderr, "holdfast: unknown call", args)
		return 64
	}
	text, err := os.ReadFile(args[3])
	if err != nil || strings.Contains(string(text), invalid) {
		fmt.Fprintln(os.Stderr, "here: error: not valid", err)
		return 1
	}
	return 0
}

// kubectl does one call.
func kubectl(args []string) int {
	code, pipe := 70, ""
	err := change(func(c *cluster) {
		var hang bool
		c.Calls = append(c.Calls, strings.Join(args, " "))
		if code, hang = c.do(args); hang {
			pipe = c.Hung
		}
	})
	if err == nil && pipe != "" {
		code, err = 143, hangUntilTold(pipe)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	return code
}

// change locks the cluster, lets do change it, and stores it.
func change(do func(*cluster)) error {
	f, err := os.OpenFile(os.Getenv(clusterFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	var c cluster
	if err := json.NewDecoder(f).Decode(&c); err != nil {
		return err
	}
	do(&c)
	return write(f, &c)
}

func write(f *os.File, c *cluster) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return json.NewEncoder(f).Encode(c)
}

// hangUntilTold says that it hangs, and ends with the signal that ends it.
func hangUntilTold(pipe string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	if err := os.WriteFile(pipe, []byte("hangs\n"), 0); err != nil {
		return err
	}
	<-told
	return change(func(c *cluster) { c.Told++ })
}

func (c *cluster) do(args []string) (code int, hang bool) {
	if len(args) > 2 && args[0] == "create" && args[1] == "configmap" {
		return create(args[2:]), false
	}
	if len(args) < 4 || args[0] != "--namespace" || args[1] != namespace {
		return unknown(args), false
	}
	args = args[2:]
	switch {
	case args[0] == "get" && args[1] == "configmap" && args[2] == configMap:
		return c.getMap(args[3:]), false
	case args[0] == "get" && args[1] == "pods":
		return c.getPods(args[2:]), false
	case args[0] == "get" && args[1] == "statefulset/otel-collector":
		fmt.Print(120)
		return 0, false
	case args[0] == "patch" && args[1] == "configmap" && args[2] == configMap:
		return c.patch(args[3:]), false
	case args[0] == "exec":
		return c.exec(args[1:])
	case slices.Equal(args, []string{"rollout", "restart", "statefulset/otel-collector"}):
		c.Current++
		return 0, false
	case args[0] == "rollout" && args[1] == "status":
		return c.roll(), false
	case args[0] == "delete" && args[1] == "pod" && c.pod(args[2]) != nil:
		p := c.pod(args[2])
		p.Deleted++
		c.start(p)
		return 0, false
	}
	return unknown(args), false
}

func unknown(args []string) int {
	fmt.Fprintln(os.Stderr, "error: unknown call", args)
	return 64
}

func refuse(text string) int {
	fmt.Fprintln(os.Stderr, "Error from server "+text)
	return 1
}

func (c *cluster) pod(name string) *pod {
	for _, p := range c.Pods {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// create prints what a new ConfigMap would hold, as kubectl does without a server.
func create(args []string) int {
	if len(args) != 5 || args[2] != "--dry-run=client" || args[4] != "jsonpath={.data}" {
		return unknown(args)
	}
	name, file, ok := strings.Cut(strings.TrimPrefix(args[1], "--from-file="), "=")
	text, err := os.ReadFile(file)
	if err != nil || !ok {
		return unknown(args)
	}
	out, err := json.Marshal(map[string]string{name: string(text)})
	if err != nil {
		return unknown(args)
	}
	os.Stdout.Write(out)
	return 0
}

func (c *cluster) getMap(args []string) int {
	switch strings.Join(args, " ") {
	case `-o jsonpath={.metadata.resourceVersion}{"\n"}{.data.config\.yaml}`:
		fmt.Printf("%d\n%s", c.Version, c.Data[key])
		if c.Meddle {
			c.Meddle = false
			c.Version++
			c.Data["other"] = "changed meanwhile"
		}
		return 0
	case `-o jsonpath={.data.config\.yaml}`:
		fmt.Print(c.Data[key])
		return 0
	}
	return unknown(args)
}

func (c *cluster) getPods(args []string) int {
	if len(args) != 4 || args[1] != "app=otel-collector" || !strings.HasPrefix(args[3], "jsonpath={range .items[*]}") {
		return unknown(args)
	}
	for _, p := range c.Pods {
		ready := "False"
		if p.Ready {
			ready = "True"
		}
		fmt.Printf("%s||%s\n", p.Name, ready)
	}
	fmt.Println("otel-collector-9|2026-11-21T00:00:00Z|True") // on its way out
	return 0
}

// patch is a merge patch: what it does not name stays, and a version it names must be the present one.
func (c *cluster) patch(args []string) int {
	if len(args) != 4 || args[0] != "--type" || args[1] != "merge" || args[2] != "--patch-file" {
		return unknown(args)
	}
	text, err := os.ReadFile(args[3])
	if err != nil {
		return unknown(args)
	}
	var p struct {
		Metadata struct{ ResourceVersion string }
		Data     map[string]string
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return refuse("(BadRequest): " + err.Error())
	}
	c.Patches++
	if slices.Contains(c.FailPatches, c.Patches) {
		return refuse("(Timeout)")
	}
	if v := p.Metadata.ResourceVersion; v != "" && v != strconv.Itoa(c.Version) {
		return refuse("(Conflict): the object has been modified")
	}
	for k, v := range p.Data {
		c.Data[k] = v
	}
	c.Version++
	if slices.Contains(c.LosePatches, c.Patches) {
		return refuse("(Timeout)")
	}
	return 0
}

// exec runs holdfast in a pod; there is nothing else in it.
func (c *cluster) exec(args []string) (code int, hang bool) {
	stdin := args[0] == "-i"
	if stdin {
		args = args[1:]
	}
	p := c.pod(args[0])
	if p == nil || len(args) < 6 || !slices.Equal(args[1:5], []string{"--container", "collector", "--", "/holdfast"}) {
		return unknown(args), false
	}
	if p.Text == "" {
		return refuse("(NotFound): container not running"), false
	}
	switch args = args[5:]; strings.Join(args[:min(2, len(args))], " ") {
	case "validate --here":
		text, err := io.ReadAll(os.Stdin)
		if err != nil || !stdin || len(text) == 0 || args[2] != "--config=-" {
			return unknown(args), false
		}
		if strings.Contains(string(text), invalid) {
			fmt.Fprintln(os.Stderr, "-:3: error: exporters/otlp: not valid")
			return 1, false
		}
		return 0, false
	case "status --json":
		return c.status(p, args[3]), false
	case "reload --wait":
		return c.reload(p, args[5])
	}
	return unknown(args), false
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// status prints indented JSON, and its exit code is about backends too.
func (c *cluster) status(p *pod, expect string) int {
	fmt.Printf("{\n  \"verdict\": \"?\",\n  \"config\": {\n    \"running\": {\n      \"sha256\": %q,\n"+
		"      \"sources\": [\n        \"/etc/otel/config.yaml\"\n      ]\n    }\n  },\n  \"destinations\": [\n"+
		"    {\"state\": \"failing\"}\n  ]\n}\n", sum(p.Text))
	switch {
	case c.Unhealthy:
		return 2
	case expect != sum(p.Text):
		return 1
	}
	return 0
}

func (c *cluster) reload(p *pod, expect string) (code int, hang bool) {
	text := c.Data[key]
	switch {
	case strings.Contains(text, noReloads+p.Name):
		return 4, false
	case expect != sum(text):
		return 3, false // the file that is mounted never becomes that one
	case strings.Contains(text, hangIn+p.Name):
		return 0, true
	case strings.Contains(text, rejectIn+p.Name):
		return 1, false
	case strings.Contains(text, undoIn+p.Name):
		return 2, false
	}
	p.Text, p.Good = text, text
	return 0, false
}

// start is a pod's start with the present text and revision.
func (c *cluster) start(p *pod) {
	p.Revision = c.Current
	switch text := c.Data[key]; {
	case strings.Contains(text, breaks):
		p.Text, p.Ready = "", false
	case strings.Contains(text, bootsGood):
		p.Text, p.Ready = p.Good, true
	default:
		p.Text, p.Good, p.Ready = text, text, true
	}
}

// roll replaces pods as the controller does: from the last on, and none while one is not ready.
func (c *cluster) roll() int {
	for _, p := range slices.Backward(c.Pods) {
		if !p.Ready {
			return refuse("timed out waiting for " + p.Name)
		}
		if p.Revision < c.Current {
			c.start(p)
		}
		if !p.Ready {
			return refuse("timed out waiting for " + p.Name)
		}
	}
	return 0
}
