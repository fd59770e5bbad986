// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/cli/proving"
)

// execute runs a command by itself and returns what it printed and its exit code, as Main would.
func execute(ctx context.Context, cmd *cobra.Command, stderr io.Writer, args ...string) (stdout string, code int, err error) {
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(stderr)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err = cmd.ExecuteContext(ctx)
	var exit *command.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.Code
	case err != nil:
		code = 1
	}
	return out.String(), code, err
}

// firstLine hands on the first line that is written, and drops the rest.
type firstLine struct {
	text  bytes.Buffer
	found chan string
}

func (f *firstLine) Write(p []byte) (int, error) {
	before := bytes.Contains(f.text.Bytes(), []byte("\n"))
	f.text.Write(p)
	if line, _, found := strings.Cut(f.text.String(), "\n"); found && !before {
		f.found <- line
	}
	return len(p), nil
}

// sinkProcess runs the sink command until the returned function is called, which returns its last line.
func sinkProcess(t *testing.T, args ...string) (addr string, stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	first := &firstLine{found: make(chan string, 1)}
	type end struct {
		out  string
		code int
		err  error
	}
	done := make(chan end, 1)
	go func() {
		var e end
		e.out, e.code, e.err = execute(ctx, proving.NewSink(), first, append([]string{"--name", "primary", "--grpc", "127.0.0.1:0"}, args...)...)
		done <- e
	}()
	var line string
	select {
	case line = <-first.found:
	case e := <-done:
		t.Fatalf("sink ended: %+v", e)
	}
	_, rest, _ := strings.Cut(line, "grpc=")
	addr, _, _ = strings.Cut(rest, " ")
	return addr, func() string {
		cancel()
		e := <-done
		if e.code != 0 {
			t.Errorf("sink: %+v", e)
		}
		return e.out
	}
}

func TestLoadSinkAndLedgerFitTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	addr, stop := sinkProcess(t, "--out", dir)
	out, code, err := execute(t.Context(), proving.NewLoad(), io.Discard, "--run", "fit", "--out", dir, "--to", "grpc://"+addr, "--requests", "3",
		"--producers", "1", "--items", "20", "--header", "authorization=Bearer canary")
	var sum struct{ Requests, Items, Acked, Unknown uint64 }
	if jsonErr := json.Unmarshal([]byte(out), &sum); code != 0 || jsonErr != nil || sum.Requests != 9 || sum.Acked != 180 {
		t.Errorf("load: exit %d, %v, %v: %s", code, err, jsonErr, out)
	}
	if out := stop(); !strings.Contains(out, `"stored":{"logs":60,"metrics":60,"traces":60}`) {
		t.Errorf("sink: %s", out)
	}
	verify := func(want int, text string, args ...string) {
		t.Helper()
		out, code, err := execute(t.Context(), proving.NewLedger(), io.Discard, append([]string{"verify", dir}, args...)...)
		if code != want || !strings.Contains(out, text) {
			t.Errorf("%q: exit %d, %v:\n%s", args, code, err, out)
		}
	}
	verify(0, "\nPASS\n", "--queue", "none", "--quiet-for", "0s")
	verify(0, `"outcome": "pass"`, "--queue", "none", "--quiet-for", "0s", "--json", "--junit", filepath.Join(dir, "own.xml"))
	verify(0, "PASS", "--quiet-for", "0s", "--control-run", dir) // the verdict that was just written
	verify(2, "INCONCLUSIVE", "--queue", "none", "--quiet-for", "1h")
	verify(2, "control run fit did not pass", "--quiet-for", "0s", "--control-run", dir)
	verify(2, "expect", "--queue", "none", "--quiet-for", "0s", "--expect", "primary.stored>1000")
	verify(1, "BALANCE", "--quiet-for", "0s", "--metrics", metricsFile(t))
	verify(1, "MISROUTED", "--queue", "none", "--quiet-for", "0s", "--allow", "primary:+1h..")
	verify(3, "", "--queue", dir)
	verify(3, "", "--want", "each:primary,nobody")
	verify(3, "", "--metrics", filepath.Join(dir, "none"))
	verify(3, "", "--control-run", filepath.Join(dir, "none"))
	verify(3, "", "--file", "junk=*")
	verify(3, "", "--expect", "nothing")
	verify(1, "", "--no-such-flag")
	for _, name := range []string{"verdict.json", "verdict.txt", "junit.xml", "own.xml"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "run.json")); err != nil || bytes.Contains(text, []byte("canary")) {
		t.Errorf("%v: a credential is in run.json", err)
	}

	out, code, err = execute(t.Context(), proving.NewLedger(), io.Discard, "show", dir, "l/1/21")
	if code != 0 || !strings.Contains(out, "acked") || !strings.Contains(out, "at primary") {
		t.Errorf("show: exit %d, %v: %s", code, err, out)
	}
	if _, code, _ := execute(t.Context(), proving.NewLedger(), io.Discard, "show", dir, "l/1/9999"); code != 3 {
		t.Errorf("show of nothing: exit %d", code)
	}
	if _, code, _ := execute(t.Context(), proving.NewLedger(), io.Discard, "verify", t.TempDir()); code != 3 {
		t.Errorf("verify of nothing: exit %d", code)
	}
}

// metricsFile holds an equation that does not add up.
func metricsFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "metrics.txt")
	labels := `{pipeline="traces",destination="otlp/primary",signal="traces"}`
	text := "holdfast_ledger_accepted_items_total" + labels + " 60\nholdfast_ledger_delivered_items_total" + labels + " 59\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestASinkThatForgetsFailsTheVerdict(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	addr, stop := sinkProcess(t, "--out", dir, "--fault", "forget,signals=logs")
	if out, code, err := execute(t.Context(), proving.NewLoad(), io.Discard, "--run", "lie", "--out", dir, "--to", "grpc://"+addr, "--requests",
		"2", "--producers", "1", "--items", "5"); code != 0 {
		t.Errorf("load: exit %d, %v: %s", code, err, out)
	}
	stop()
	out, code, _ := execute(t.Context(), proving.NewLedger(), io.Discard, "verify", dir, "--queue", "none", "--quiet-for", "0s")
	if code != 1 || !strings.Contains(out, "LOST 10   logs producer 1   1-10") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

func TestLoadSaysWhenSomethingStaysUnknown(t *testing.T) {
	addr, stop := sinkProcess(t, "--count-only", "--fault", "status:UNAVAILABLE")
	defer stop()
	dir := filepath.Join(t.TempDir(), "run")
	out, code, _ := execute(t.Context(), proving.NewLoad(), io.Discard, "--run", "gone", "--out", dir, "--to", "grpc://"+addr, "--requests", "1",
		"--on-unknown", "drop", "--items", "5", "--signals", "logs", "--producers", "1")
	if code != 2 || !strings.Contains(out, `"unknown":5`) {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestWrongUsageOfTheProvingGroundIsToldApart(t *testing.T) {
	for _, c := range []struct {
		cmd  *cobra.Command
		args string
		want int
	}{
		{proving.NewLoad(), "", 1}, {proving.NewLoad(), "--run BAD", 1}, {proving.NewLoad(), "--run x --signals ghosts", 1},
		{proving.NewLoad(), "--run x --header nothing", 1}, {proving.NewLoad(), "--run x --out " + t.TempDir() + " --to nowhere", 3},
		{proving.NewSink(), "", 1}, {proving.NewSink(), "--name x", 1}, {proving.NewSink(), "--name x --grpc 127.0.0.1:0 --tls-cert y", 1},
		{proving.NewSink(), "--name x --grpc 127.0.0.1:0 --fault nonsense", 3}, {proving.NewSink(), "--name x --grpc nowhere:0", 3},
		{proving.NewSink(), "--name x --grpc 127.0.0.1:0 --control 0.0.0.0:0", 3},
		{proving.NewSink(), "--name x --grpc 127.0.0.1:0 --count-only --out y", 1},
		{proving.NewLedger(), "verify", 1}, {proving.NewLedger(), "show x", 1},
	} {
		if _, code, err := execute(t.Context(), c.cmd, io.Discard, strings.Fields(c.args)...); code != c.want || err == nil {
			t.Errorf("%s %s: exit %d, %v", c.cmd.Name(), c.args, code, err)
		}
	}
}

func TestEveryCommandOfTheProvingGroundHasAnExampleAndItsExitCodes(t *testing.T) {
	ledger := proving.NewLedger()
	for _, cmd := range append(ledger.Commands(), proving.NewLoad(), proving.NewSink(), ledger) {
		if !strings.Contains(cmd.Example, "holdfast ") || !strings.Contains(cmd.Example, "Exit codes:") {
			t.Errorf("%s: %q", cmd.Name(), cmd.Example)
		}
	}
}
