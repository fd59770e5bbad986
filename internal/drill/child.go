// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

// configuration is a plain fan-out: each of the two backends gets everything.
const configuration = `# written by holdfast demo
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: %s
processors:
  batch:
    send_batch_size: 1024
    timeout: 200ms
exporters:
  otlp_grpc/primary:
    endpoint: %s
    tls: {insecure: true}
    compression: none
    sending_queue: {queue_size: 10000}
    retry_on_failure: {initial_interval: 500ms, max_interval: 2s, max_elapsed_time: 0s}
  otlp_grpc/secondary:
    endpoint: %s
    tls: {insecure: true}
    compression: none
    sending_queue: {queue_size: 10000}
service:
  telemetry:
    metrics:
      address: %s
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [otlp_grpc/primary, otlp_grpc/secondary]}
    metrics: {receivers: [otlp], processors: [batch], exporters: [otlp_grpc/primary, otlp_grpc/secondary]}
    logs: {receivers: [otlp], processors: [batch], exporters: [otlp_grpc/primary, otlp_grpc/secondary]}
`

// child is a running Holdfast.
type child struct {
	cmd           *exec.Cmd
	otlp, metrics string
	log           string
	done          chan struct{}
	err           error // of Wait, once done is closed
}

// start writes a configuration, runs it and waits until it is ready. What the process logs is in DIR/holdfast.log.
func (d *drill) start(ctx context.Context, dir, primary, secondary string) (*child, error) {
	addrs, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	c := &child{otlp: addrs[0], metrics: addrs[1], log: filepath.Join(dir, "holdfast.log"), done: make(chan struct{})}
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf(configuration, c.otlp, primary, secondary, c.metrics)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	c.cmd = exec.Command(d.o.Binary, "run", "--config", config, "--implicit-health=off", "--state-dir", dir)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// A child that outlives a killed drill would hold its ports for ever.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.o.Binary, err)
	}
	go func() { // ends with the process
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	if err := c.ready(ctx); err != nil {
		c.kill()
		text, _ := os.ReadFile(c.log) // shown with the cause
		return nil, fmt.Errorf("%w\n%s", err, bytes.TrimSpace(text))
	}
	return c, nil
}

func freeAddresses(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together at the end, so that no port comes twice
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// ready waits for the OTLP port: receivers open last.
func (c *child) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", c.otlp)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-c.done:
			return errors.New("holdfast ended before it was ready")
		default:
		}
		if !wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("holdfast is not ready after %s", readyTimeout)
		}
	}
}

// stop asks the process to end and returns its exit code.
func (c *child) stop(limit time.Duration) (int, error) {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop holdfast: %w", err)
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c.done:
		return c.cmd.ProcessState.ExitCode(), nil
	case <-t.C:
		return 0, fmt.Errorf("holdfast did not stop within %s", limit)
	}
}

// kill ends the process if it still runs, and waits for it.
func (c *child) kill() {
	select {
	case <-c.done:
		return
	default:
	}
	_ = c.cmd.Process.Kill() // it may have ended this moment
	<-c.done
}

func (c *child) scrape(ctx context.Context) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.metrics+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return resp.Body, nil
}

func (c *child) books(ctx context.Context) (*ledger.Metrics, error) {
	body, err := c.scrape(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return ledger.ParseMetrics(body)
}

// summary is what each destination has and waits for, in a few words.
func (c *child) summary(ctx context.Context) string {
	m, err := c.books(ctx)
	if err != nil {
		return err.Error()
	}
	delivered, queued := map[string]int64{}, map[string]int64{}
	for _, b := range m.Books() {
		delivered[b.Destination] += b.Delivered
		queued[b.Destination] += b.Queued
	}
	return fmt.Sprintf("primary has %d items, %d wait for it; secondary has %d, %d wait",
		delivered["otlp_grpc/primary"], queued["otlp_grpc/primary"],
		delivered["otlp_grpc/secondary"], queued["otlp_grpc/secondary"])
}
