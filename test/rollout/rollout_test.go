// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package rollout plays deploy/rollout.sh against a kubectl of its own, which asks this test what a cluster would do. It
// checks what the script promises: a configuration runs everywhere, or everything is as it was, or a
// person is told where the text is that has to be written back.
package rollout

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The texts have everything that a careless quoting would break, and end in two newlines.
const (
	oldText = "# before\nexporters: {otlp: {endpoint: \"a\\b:4317\", headers: {x: 'ä<&>'}}}\n\t\n\n"
	newText = "# after\nexporters: {otlp: {endpoint: \"$HOME `id` %s\"}}\n\n"
)

// player runs the script against one cluster.
type player struct {
	*testing.T
	dir  string
	args []string
	// onHang is called when a reload hangs, with the script's process.
	onHang func(script *os.Process)
	settle string // seconds to wait for a hash; a test of one that never comes needs few
	server *server
}

func newPlayer(t *testing.T, c *cluster) *player {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("SKIP rollout.sh: missing bash:", err)
	}
	p := &player{T: t, dir: t.TempDir()}
	c.Version, c.Data = 41, map[string]string{key: oldText, "other": "mine"}
	for _, name := range []string{"otel-collector-0", "otel-collector-1", "otel-collector-2"} {
		c.Pods = append(c.Pods, &pod{Name: name, Text: oldText, Good: oldText, Ready: true})
	}
	for _, name := range []string{"tmp", "bin"} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.install("kubectl")
	p.server = serve(t, c)
	return p
}

// install puts a program on the script's PATH.
func (p *player) install(name string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "bin", name), []byte(program), 0o700); err != nil {
		p.Fatal(err)
	}
}

// result is what the script left behind.
type result struct {
	code      int
	out, errs string
	*cluster
}

// roll rolls text out.
func (p *player) roll(text string) *result {
	p.Helper()
	file := filepath.Join(p.dir, "new config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append(append([]string{"../../deploy/rollout.sh"}, p.args...), file)...)
	cmd.Env = []string{
		"PATH=" + filepath.Join(p.dir, "bin") + ":/usr/local/bin:/usr/bin:/bin", "TMPDIR=" + filepath.Join(p.dir, "tmp"),
		"ROLLOUT_TEST_PORT=" + strconv.Itoa(p.server.listener.Addr().(*net.TCPAddr).Port), "ROLLOUT_POLL_SECONDS=0.01", "HOME=" + p.dir,
		"ROLLOUT_SETTLE_SECONDS=" + cmp.Or(p.settle, "30"),
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if p.onHang != nil {
		select {
		case <-p.server.hung:
			p.onHang(cmd.Process)
		case err := <-ended:
			p.Fatalf("ended without hanging: %v\n%s", err, errs.String())
		}
	}
	var exit *exec.ExitError
	if err := <-ended; err != nil && !errors.As(err, &exit) {
		p.Fatal(err)
	}
	p.server.listener.Close()
	p.server.done.Wait() // a kubectl that was left behind would be waited for until the test's time is over
	r := &result{code: cmd.ProcessState.ExitCode(), out: out.String(), errs: errs.String(), cluster: p.server.mu.cluster}
	p.Logf("exit %d\n%s%s%s", r.code, r.out, r.errs, strings.Join(r.Calls, "\n"))
	if len(r.Unknown) > 0 || strings.Contains(r.errs, "rollout.sh: line") {
		p.Errorf("the script called what there is not, or stumbled: %q", r.Unknown)
	}
	return r
}

// everywhere checks that the ConfigMap has the text, every pod runs it, and nothing else changed.
func (p *player) everywhere(r *result, code int, text string) {
	p.Helper()
	if r.code != code {
		p.Errorf("exit %d, not %d", r.code, code)
	}
	if r.Data[key] != text {
		p.Errorf("the ConfigMap has %q", r.Data[key])
	}
	for _, pod := range r.Pods {
		if pod.Text != text || !pod.Ready {
			p.Errorf("%s runs %q, ready %v", pod.Name, pod.Text, pod.Ready)
		}
	}
	if left, err := os.ReadDir(filepath.Join(p.dir, "tmp")); err != nil || len(left) > 0 {
		p.Errorf("left behind: %v, %v", left, err)
	}
}

func (r *result) called(part string) (n int) {
	for _, call := range r.Calls {
		if strings.Contains(call, part) {
			n++
		}
	}
	return n
}

func TestAGoodConfigurationRunsEverywhereAndNothingElseChanges(t *testing.T) {
	p := newPlayer(t, &cluster{})
	p.install("holdfast")
	r := p.roll(newText)
	p.everywhere(r, 0, newText)
	if r.Data["other"] != "mine" || r.called("reload --wait") != 3 || r.called("rollout restart") != 0 {
		t.Errorf("other %q, calls %q", r.Data["other"], r.Calls)
	}
}

// Degraded and unhealthy are about backends: an outage neither stops a rollout nor undoes it.
func TestAnOutageOfTheBackendsDoesNotStopARollout(t *testing.T) {
	p := newPlayer(t, &cluster{Unhealthy: true})
	p.everywhere(p.roll(newText), 0, newText)
}

func TestRollingOutTwiceChangesNothing(t *testing.T) {
	p := newPlayer(t, &cluster{})
	r := p.roll(oldText)
	p.everywhere(r, 0, oldText)
	if r.called("patch") != 0 {
		t.Errorf("calls %q", r.Calls)
	}
}

func TestWhatNoPodWouldRunIsNotWritten(t *testing.T) {
	for _, local := range []bool{false, true} {
		p := newPlayer(t, &cluster{})
		if local {
			p.install("holdfast")
		}
		r := p.roll(newText + invalid)
		p.everywhere(r, 1, oldText)
		if r.called("patch") != 0 || r.called("validate") != 1 || local != (r.called("holdfast validate --portable") == 1) {
			t.Errorf("calls %q", r.Calls)
		}
	}
}

func TestThePodThatDoesNotTakeItUndoesItInAll(t *testing.T) {
	for _, trouble := range []string{rejectIn, undoIn, noReloads} {
		for _, pod := range []string{"otel-collector-0", "otel-collector-1", "otel-collector-2"} {
			t.Run(strings.TrimSpace(trouble[2:])+" "+pod, func(t *testing.T) {
				t.Parallel()
				p := newPlayer(t, &cluster{})
				p.everywhere(p.roll(newText+trouble+pod), 1, oldText)
			})
		}
	}
}

func TestAParallelChangeStopsTheRolloutAndStays(t *testing.T) {
	p := newPlayer(t, &cluster{Meddle: true})
	r := p.roll(newText)
	p.everywhere(r, 1, oldText)
	if r.Data["other"] != "changed meanwhile" || r.Patches != 1 {
		t.Errorf("other %q, %d patches", r.Data["other"], r.Patches)
	}
}

// The server has done it and the answer is lost: nobody knows, so it is undone.
func TestAWriteWhoseAnswerIsLostIsUndone(t *testing.T) {
	p := newPlayer(t, &cluster{LosePatches: []int{1}})
	p.everywhere(p.roll(newText), 1, oldText)
}

func TestAnUndoThatFailsSaysWhereTheTextIs(t *testing.T) {
	p := newPlayer(t, &cluster{FailPatches: []int{2, 3}})
	r := p.roll(newText + rejectIn + "otel-collector-1")
	if r.code != 2 {
		t.Errorf("exit %d", r.code)
	}
	kept, err := filepath.Glob(filepath.Join(p.dir, "tmp", "rollout.*", key))
	if err != nil || len(kept) != 1 || !strings.Contains(r.errs, kept[0]) {
		t.Fatalf("kept %q, %v", kept, err)
	}
	if text, err := os.ReadFile(kept[0]); err != nil || string(text) != oldText {
		t.Errorf("the backup has %q, %v", text, err)
	}
}

// What pods say of their reload is not enough on the way back either.
func TestAPodThatDoesNotGoBackIsNoUndo(t *testing.T) {
	p := newPlayer(t, &cluster{Stuck: "otel-collector-0"})
	p.settle = "1"
	r := p.roll(newText + undoIn + "otel-collector-1")
	if r.code != 2 || r.Data[key] != oldText || !strings.Contains(r.errs, "otel-collector-0 does not show") {
		t.Errorf("exit %d, the ConfigMap has %q", r.code, r.Data[key])
	}
}

func TestAnUndoIsTriedTwice(t *testing.T) {
	p := newPlayer(t, &cluster{FailPatches: []int{2}})
	p.everywhere(p.roll(newText+rejectIn+"otel-collector-1"), 1, oldText)
}

func TestAnInterruptUndoes(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, &cluster{})
			p.onHang = func(script *os.Process) {
				if err := script.Signal(sig); err != nil {
					t.Error(err)
				}
			}
			r := p.roll(newText + hangIn + "otel-collector-1")
			p.everywhere(r, 1, oldText)
			if r.Told != 1 {
				t.Errorf("%d calls of kubectl were ended, not 1", r.Told)
			}
		})
	}
}

func TestADryRunPrintsTheStepsAndDoesNothing(t *testing.T) {
	for _, mode := range []string{"reload", "restart"} {
		p := newPlayer(t, &cluster{})
		p.args = []string{"--dry-run", "--mode", mode}
		r := p.roll(newText)
		p.everywhere(r, 0, oldText)
		if len(r.Calls) != 0 || !strings.Contains(r.out, sum(newText)) || strings.Count(r.out, "\n") < 6 {
			t.Errorf("calls %q, output %q", r.Calls, r.out)
		}
	}
}

func TestAPodThatDoesNotAnswerIsNoticedBeforeAnythingChanges(t *testing.T) {
	p := newPlayer(t, &cluster{})
	p.server.mu.cluster.Pods[2].Text = ""
	r := p.roll(newText)
	if r.code != 1 || r.Data[key] != oldText || r.Patches != 0 || !strings.Contains(r.errs, "otel-collector-2") {
		t.Errorf("exit %d, %d patches: %s", r.code, r.Patches, r.errs)
	}
}

func TestARestartBringsItToAllPods(t *testing.T) {
	p := newPlayer(t, &cluster{})
	p.args = []string{"--mode", "restart"}
	r := p.roll(newText)
	p.everywhere(r, 0, newText)
	if r.called("rollout restart") != 1 || r.called("reload") != 0 || r.called("--timeout 540s") != 1 {
		t.Errorf("calls %q", r.Calls)
	}
}

// Ready is not good: a bad text boots on the last good one, and every pod is ready.
func TestARestartOnTheLastGoodConfigurationIsNoSuccess(t *testing.T) {
	p := newPlayer(t, &cluster{})
	p.args = []string{"--mode", "restart"}
	p.settle = "1"
	p.everywhere(p.roll(newText+bootsGood), 1, oldText)
}

// The controller waits for a broken pod for ever; the way back deletes it.
func TestABrokenPodDoesNotStandInTheWayBack(t *testing.T) {
	p := newPlayer(t, &cluster{})
	p.args = []string{"--mode", "restart"}
	r := p.roll(newText + breaks)
	p.everywhere(r, 1, oldText)
	if r.Pods[2].Deleted != 1 || r.Pods[0].Deleted+r.Pods[1].Deleted != 0 {
		t.Errorf("pods %+v", r.Pods[2])
	}
}

// A restart brings pods back that cannot be asked.
func TestARestartMendsPodsThatDoNotAnswer(t *testing.T) {
	p := newPlayer(t, &cluster{})
	p.args = []string{"--mode", "restart"}
	p.server.mu.cluster.Pods[0].Text = "" // its process hangs, its pod is ready
	p.everywhere(p.roll(newText), 0, newText)
}

func TestWrongUsageTouchesNothing(t *testing.T) {
	for _, args := range [][]string{{"--mode", "hope"}, {"--unknown"}, {"one", "two"}, {"--mode"}} {
		p := newPlayer(t, &cluster{})
		p.args = args
		if r := p.roll(newText); r.code != 1 || len(r.Calls) != 0 || r.errs == "" {
			t.Errorf("%q: exit %d, calls %q", args, r.code, r.Calls)
		}
	}
}
