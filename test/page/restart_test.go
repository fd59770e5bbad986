// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

// configuration is a process with a page, a queue on disk, and a backend that nobody listens at.
const configuration = `
extensions:
  file_storage: {directory: %[1]q}
  status: {endpoint: "%[2]s:13134", history: 50}
receivers:
  otlp: {protocols: {grpc: {endpoint: "%[2]s:4317"}}}
exporters:
  otlp/vault:
    endpoint: "%[2]s:14317"
    headers: {x-api-key: canary-in-a-header}
    tls: {insecure: true}
    sending_queue: {storage: file_storage}
service:
  extensions: [file_storage, status]
  telemetry: {metrics: {level: none}}
  reload: {trial: 1s}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp/vault]}
`

// collector is a real process with a page of its own.
type collector struct {
	*testing.T
	dir, host string
	cmd       *exec.Cmd
	log       bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	c := &collector{T: t, dir: t.TempDir(), host: freeHost(t)}
	c.write(fmt.Sprintf(configuration, filepath.Join(c.dir, "queue"), c.host))
	t.Cleanup(func() { c.kill() })
	return c
}

// freeHost is a loopback address of which the page's port is free.
func freeHost(t *testing.T) string {
	t.Helper()
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 110+rand.IntN(90), rand.IntN(256), 1+rand.IntN(254))
		if l, err := net.Listen("tcp", host+":13134"); err == nil {
			_ = l.Close()
			return host
		}
	}
	t.Fatal("no loopback address is free")
	return ""
}

func (c *collector) write(text string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "config.yaml"), []byte(text), 0o600); err != nil {
		c.Fatal(err)
	}
}

func (c *collector) page() string { return "http://" + c.host + ":13134/" }

func (c *collector) start() {
	c.Helper()
	c.cmd = exec.Command(program(c.T), "run", "--config", filepath.Join(c.dir, "config.yaml"), "--implicit-health=off",
		"--state-dir", filepath.Join(c.dir, "state"))
	c.cmd.Stderr = &c.log
	if err := c.cmd.Start(); err != nil {
		c.Fatal(err)
	}
	for deadline := time.Now().Add(limit); ; {
		conn, err := net.DialTimeout("tcp", c.host+":13134", time.Second)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("the page is not served: %v\n%s", err, c.log.String())
		}
		timer := time.NewTimer(50 * time.Millisecond)
		<-timer.C
	}
}

func (c *collector) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

func TestThePageOfAProcessSurvivesItsRestartAndShowsARefusedConfiguration(t *testing.T) {
	browserPath(t)
	c := newCollector(t)
	c.start()
	b := open(t, c.page())
	b.shows("#verdict", "All is well", "No data is coming in")
	b.shows(box("vault"), "serving")
	b.shows("#config", "committed")

	c.write("receivers: {otlp: {protocols: {grpc: {endpont: x}}}}\n")
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.shows("#verdict", "degraded", "A new configuration was rejected, the one before it runs on.", "Nothing lost", "There is no pipeline")
	b.shows("#config", "rejected", "not what runs", "there is no pipeline")
	b.shows("#events", "Config rejected, invalid, generation 2: there is no pipeline")
	b.look("refused")

	c.kill()
	b.shows("#verdict", "Not answering since ")
	c.write(fmt.Sprintf(configuration, filepath.Join(c.dir, "queue"), c.host))
	c.start()
	b.shows("#verdict", "All is well")
	b.shows("#events", "Holdfast starts")
	var whole string
	b.run(chromedp.Evaluate(`fetch("status.json").then((r) => r.text()).then((t) => t + document.documentElement.outerHTML)`, &whole,
		chromedp.EvalAsValue, awaited))
	if bytes.Contains([]byte(whole), []byte("canary-in-a-header")) || len(whole) < 1000 {
		t.Errorf("a secret of the configuration is shown, or nothing is:\n%.300s", whole)
	}
	b.stays("net::ERR_")
}
