// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const namespace, configMap, key = "observability", "otel-collector-config", "config.yaml"

// refused is how kubectl ends when the server says no.
const refused = 1

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
	Stuck     string   // a pod that says it reloaded, and never goes back
	Unknown   []string // calls that nobody knows
	Told      int      // reloads that hung, and were told to end

	stdin string       // of the call
	out   bytes.Buffer // what it prints
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

// server is what the kubectl and the holdfast on the script's PATH talk to: they hand over what they were called with and
// print what they are told. That way hundreds of calls take seconds, and the cluster is a value of the test.
type server struct {
	listener net.Listener
	done     sync.WaitGroup
	hung     chan struct{} // gets one when a reload hangs
	mu       struct {
		sync.Mutex
		cluster *cluster
	}
}

// hangs is how long a call that hangs is waited for.
const hangs = 20 * time.Second

// program is kubectl, and holdfast. What it is called with goes over in words that end in NUL.
const program = `#!/usr/bin/env bash
LC_ALL=C text=''
exec 3<>"/dev/tcp/127.0.0.1/$ROLLOUT_TEST_PORT" || exit 70
if [[ " $* " == *' -i '* ]]; then IFS= read -r -d '' text; fi
printf '%s\0' "${0##*/}" "$text" "$#" "$@" >&3
IFS= read -r code <&3 || exit 70
cat <&3
exit "$code"
`

func serve(t *testing.T, c *cluster) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: l, hung: make(chan struct{}, 1)}
	s.mu.cluster = c
	s.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.done.Go(func() {
				defer conn.Close()
				s.answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.done.Wait()
	})
	return s
}

func (s *server) answer(conn net.Conn) {
	r := bufio.NewReader(conn)
	word := func() string {
		w, _ := r.ReadString(0) // what is cut off is no call that is known
		return strings.TrimSuffix(w, "\x00")
	}
	name, text := word(), word()
	n, _ := strconv.Atoi(word())
	args := make([]string, 0, n)
	for range n {
		args = append(args, word())
	}
	out, code, hang := s.call(name, args, text)
	if hang {
		s.hung <- struct{}{}
		err := conn.SetReadDeadline(time.Now().Add(hangs))
		if err == nil {
			_, err = r.ReadByte() // returns when whoever asked is gone
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.cluster.Told++; errors.Is(err, os.ErrDeadlineExceeded) {
			s.mu.cluster.Unknown = append(s.mu.cluster.Unknown, "left behind: "+strings.Join(args, " "))
		}
		return
	}
	fmt.Fprintf(conn, "%d\n%s", code, out)
}

func (s *server) call(name string, args []string, text string) (out string, code int, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mu.cluster
	c.Calls = append(c.Calls, name+" "+strings.Join(args, " "))
	c.stdin = text
	c.out.Reset()
	switch name {
	case "kubectl":
		code, hang = c.do(args)
	case "holdfast":
		code = c.validate(args)
	}
	return c.out.String(), code, hang
}

// validate is the holdfast of the person who rolls out.
func (c *cluster) validate(args []string) int {
	if len(args) != 4 || args[0] != "validate" || args[1] != "--portable" || args[2] != "--config" {
		return c.unknown(args)
	}
	text, err := os.ReadFile(args[3])
	if err != nil || strings.Contains(string(text), invalid) {
		return 1
	}
	return 0
}

func (c *cluster) do(args []string) (code int, hang bool) {
	if len(args) > 2 && args[0] == "create" && args[1] == "configmap" {
		return c.create(args[2:]), false
	}
	if len(args) < 4 || args[0] != "--namespace" || args[1] != namespace {
		return c.unknown(args), false
	}
	args = args[2:]
	switch {
	case args[0] == "get" && args[1] == "configmap" && args[2] == configMap:
		return c.getMap(args[3:]), false
	case args[0] == "get" && args[1] == "pods":
		return c.getPods(args[2:]), false
	case args[0] == "get" && args[1] == "statefulset/otel-collector":
		c.out.WriteString("120")
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
	return c.unknown(args), false
}

func (c *cluster) unknown(args []string) int {
	c.Unknown = append(c.Unknown, strings.Join(args, " "))
	return 64
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
func (c *cluster) create(args []string) int {
	if len(args) != 5 || args[2] != "--dry-run=client" || args[4] != "jsonpath={.data}" {
		return c.unknown(args)
	}
	name, file, ok := strings.Cut(strings.TrimPrefix(args[1], "--from-file="), "=")
	text, err := os.ReadFile(file)
	if err != nil || !ok {
		return c.unknown(args)
	}
	out, err := json.Marshal(map[string]string{name: string(text)})
	if err != nil {
		return c.unknown(args)
	}
	c.out.Write(out)
	return 0
}

func (c *cluster) getMap(args []string) int {
	switch strings.Join(args, " ") {
	case `-o jsonpath={.metadata.resourceVersion}{"\n"}{.data.config\.yaml}`:
		fmt.Fprintf(&c.out, "%d\n%s", c.Version, c.Data[key])
		if c.Meddle {
			c.Meddle = false
			c.Version++
			c.Data["other"] = "changed meanwhile"
		}
		return 0
	case `-o jsonpath={.data.config\.yaml}`:
		c.out.WriteString(c.Data[key])
		return 0
	}
	return c.unknown(args)
}

func (c *cluster) getPods(args []string) int {
	if len(args) != 4 || args[1] != "app=otel-collector" || !strings.HasPrefix(args[3], "jsonpath={range .items[*]}") {
		return c.unknown(args)
	}
	for _, p := range c.Pods {
		ready := "False"
		if p.Ready {
			ready = "True"
		}
		fmt.Fprintf(&c.out, "%s||%s\n", p.Name, ready)
	}
	fmt.Fprintln(&c.out, "otel-collector-9|2026-11-21T00:00:00Z|True") // on its way out
	return 0
}

// patch is a merge patch: what it does not name stays, and a version it names must be the present one.
func (c *cluster) patch(args []string) int {
	if len(args) != 4 || args[0] != "--type" || args[1] != "merge" || args[2] != "--patch-file" {
		return c.unknown(args)
	}
	text, err := os.ReadFile(args[3])
	if err != nil {
		return c.unknown(args)
	}
	var p struct {
		Metadata struct{ ResourceVersion string }
		Data     map[string]string
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return refused
	}
	c.Patches++
	if slices.Contains(c.FailPatches, c.Patches) {
		return refused
	}
	if v := p.Metadata.ResourceVersion; v != "" && v != strconv.Itoa(c.Version) {
		return refused
	}
	for k, v := range p.Data {
		c.Data[k] = v
	}
	c.Version++
	if slices.Contains(c.LosePatches, c.Patches) {
		return refused
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
		return c.unknown(args), false
	}
	if p.Text == "" {
		return refused, false
	}
	switch args = args[5:]; strings.Join(args[:min(2, len(args))], " ") {
	case "validate --here":
		if !stdin || c.stdin == "" || args[2] != "--config=-" {
			return c.unknown(args), false
		}
		if strings.Contains(c.stdin, invalid) {
			return 1, false
		}
		return 0, false
	case "status --json":
		return c.status(p, args[3]), false
	case "reload --wait":
		return c.reload(p, args[5])
	}
	return c.unknown(args), false
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// status prints indented JSON, and its exit code is about backends too.
func (c *cluster) status(p *pod, expect string) int {
	fmt.Fprintf(&c.out, "{\n  \"verdict\": \"?\",\n  \"config\": {\n    \"running\": {\n      \"sha256\": %q,\n"+
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
	if p.Name != c.Stuck || text != oldText {
		p.Text, p.Good = text, text
	}
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
			return refused
		}
		if p.Revision < c.Current {
			c.start(p)
		}
		if !p.Ready {
			return refused
		}
	}
	return 0
}
