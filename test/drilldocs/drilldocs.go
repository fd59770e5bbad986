// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command drilldocs plays the drills that docs/drill.md shows, and writes what came of them into it.
//
// It is for make drill-docs. It plays both guides' configurations, their tests by hand, and a configuration that cannot
// keep the promise; it replaces what stands between the marks of docs/drill.md, and puts the pages of both guides beside it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	seeds = "test/compat/seeds/"
	page  = "docs/drill.md"
	pages = "docs/drill"
	// bare is guide B's connector without a storage, on a disk that is too small for what it holds otherwise.
	bare = `# a configuration that cannot keep the promise
receivers: {otlp: {protocols: {grpc: {endpoint: 0.0.0.0:4317}}}}
exporters:
  otlp/primary: {endpoint: "primary.example.com:4317", timeout: 2s, sending_queue: {storage: file_storage}}
  otlp/secondary: {endpoint: "secondary.example.com:4317", timeout: 2s}
  otlp/audit: {endpoint: "audit.example.com:4317", timeout: 2s}
extensions: {file_storage: {directory: /var/lib/queue, max_file_size_mib: 32}}
connectors: {failover: {priority_levels: [[otlp/primary], [otlp/secondary]]}}
service:
  extensions: [file_storage]
  pipelines:
    traces: {receivers: [otlp], exporters: [failover]}
    logs: {receivers: [otlp], exporters: [otlp/audit]}
`
)

// drill is one to be played.
type drill struct {
	mark, page string // the mark in the document; the file of its page, empty = none
	configs    []string
	scenarios  []string
	code       int // what it must end with
}

func main() {
	binary := flag.String("holdfast", "bin/holdfast", "the program")
	only := flag.String("only", "", "play this one alone, by its mark")
	flag.Parse()
	if err := run(*binary, *only); err != nil {
		fmt.Fprintln(os.Stderr, "drilldocs:", err)
		os.Exit(1)
	}
}

func run(binary, only string) error {
	dir, err := os.MkdirTemp("", "drilldocs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // a directory of our own
	gateway, wrong := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "wrong.yaml")
	whole, err := os.ReadFile(seeds + "000-05-multi-backend-failover.yaml")
	if err != nil {
		return err
	}
	part, err := os.ReadFile(seeds + "000-06-multi-backend-failover.yaml")
	if err != nil {
		return err
	}
	components, _, found := strings.Cut(string(whole), "\nservice:") // its service is the fan-out that 000-06 replaces
	if !found {
		return errors.New("000-05 has no service")
	}
	err = errors.Join(os.WriteFile(gateway, []byte(components+"\n"+string(part)), 0o600), os.WriteFile(wrong, []byte(bare), 0o600))
	if err != nil {
		return err
	}
	for _, d := range []drill{
		{mark: "guide-a", page: "guide-a.html", configs: []string{gateway}},
		{mark: "guide-b", page: "guide-b.html", configs: []string{seeds + "001-01-configuring-dual-exporters.yaml",
			seeds + "001-02-using-the-failover-connector.yaml"}},
		{mark: "by-hand", configs: []string{gateway}, scenarios: []string{"seed-a-kill-pod", "seed-a-drop-packets", "seed-a-files", "seed-b-block"}},
		{mark: "wrong", configs: []string{wrong}, scenarios: []string{"kill", "term-full", "disk-cap"}, code: 1},
	} {
		if only != "" && d.mark != only {
			continue
		}
		if err := d.play(binary, dir); err != nil {
			return fmt.Errorf("%s: %w", d.mark, err)
		}
	}
	return nil
}

// play plays one, and writes it into the document.
func (d *drill) play(binary, dir string) error {
	report := filepath.Join(dir, d.mark)
	args := []string{"drill", "--report", report}
	for _, c := range d.configs {
		args = append(args, "--config", c)
	}
	for _, s := range d.scenarios {
		args = append(args, "--scenario", s)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if code := cmd.ProcessState.ExitCode(); code != d.code {
		return fmt.Errorf("exit code %d, and %d was expected:\n%s", code, d.code, out)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	shown := strings.ReplaceAll(table(string(out)), dir+string(filepath.Separator), "")
	next, err := replace(string(text), d.mark, shown)
	if err != nil {
		return err
	}
	if err := os.WriteFile(page, []byte(next), 0o600); err != nil {
		return err
	}
	if d.page == "" {
		return nil
	}
	html, err := os.ReadFile(filepath.Join(report, "report.html"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(pages, 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(pages, d.page), []byte(strings.ReplaceAll(string(html), dir+string(filepath.Separator), "")), 0o600)
}

// table is what a drill says, indented, without the list of delays.
func table(out string) string {
	var b strings.Builder
	skip := false
	for line := range strings.Lines(out) {
		switch {
		case strings.HasPrefix(line, "Shorter than you wrote it"):
			skip = true
			continue
		case skip && strings.HasPrefix(line, " "), strings.TrimSpace(line) == "":
			continue
		}
		if skip = false; strings.HasPrefix(line, "What this") || strings.HasPrefix(line, "Not as you") {
			b.WriteString("\n")
		}
		b.WriteString("    " + line)
	}
	return b.String()
}

// replace puts text between the marks of a name.
func replace(doc, name, text string) (string, error) {
	begin, end := "<!-- drill "+name+" -->\n", "<!-- end "+name+" -->"
	head, rest, ok := strings.Cut(doc, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("%s has no place for %s", page, name)
	}
	return head + begin + "\n" + text + "\n" + end + tail, nil
}
