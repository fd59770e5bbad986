// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/disk"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// collector is one instance, over all its lives.
type collector struct {
	name   string
	ctx    context.Context // of the whole recording
	stage  *stage
	binary string     // which it is in its next life
	right  string     // the one that is made
	disk   *disk.Disk // nil = the host's
	dir    string
	host   string // a loopback address of its own: every port is free
	values map[string]string
	client http.Client
	loads  sync.WaitGroup

	backends []*mockbackend.Backend
	mu       sync.Mutex
	cmd      *exec.Cmd // nil while it does not live
	ended    chan struct{}
	begun    int // lives
}

func newCollector(ctx context.Context, s *stage, name, binary, dir string, number int) (*collector, error) {
	c := &collector{
		name: name, ctx: ctx, stage: s, binary: binary, right: binary, dir: dir, host: fmt.Sprintf("127.78.%d.%d", os.Getpid()%250+1, number),
		client: http.Client{Timeout: 3 * every},
	}
	c.values = map[string]string{"HOST": c.host, "DIR": dir}
	return c, os.MkdirAll(dir, 0o700)
}

// backend starts one more, at $NAME.
func (c *collector) backend(name string) (*mockbackend.Backend, error) {
	b, err := mockbackend.Start(mockbackend.Options{Name: name, GRPC: c.host + ":0", CountOnly: true})
	if err == nil {
		c.backends = append(c.backends, b)
		c.values[strings.ToUpper(name)] = b.GRPCAddr()
	}
	return b, err
}

// common is what all configurations have. Times are a thirtieth of the defaults, as the recording is played thirty times
// slower: retries after 5 s, which become rarer to 30 s, read so again.
const common = `receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
service:
  telemetry: {metrics: {address: "$HOST:8888"}, logs: {level: warn}}
`

const retries = "retry_on_failure: {initial_interval: 170ms, max_interval: 1s}"

// configure writes the configuration, in which $NAME stands for a value.
func (c *collector) configure(text string) error {
	full := os.Expand(text, func(key string) string { return c.values[key] })
	tmp := c.config() + ".new"
	if err := os.WriteFile(tmp, []byte(full), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, c.config())
}

func (c *collector) config() string { return filepath.Join(c.dir, "config.yaml") }

// errEnded says that a life ended before it could answer.
var errEnded = errors.New("it does not start")

// ownDisk gives it a disk whose syncs can be slow, or fail.
func (c *collector) ownDisk() (err error) {
	if c.disk, err = disk.Open(disk.Options{Slow: true}); err != nil {
		return fmt.Errorf("this host gives no process a disk that can be slow or fail; -only leaves the scene out: %w", err)
	}
	return nil
}

// launch starts the process, on its own disk if it has one.
func (c *collector) launch(cmd *exec.Cmd) (err error) {
	if c.disk == nil {
		return cmd.Start()
	}
	c.disk.Do(func() { err = cmd.Start() })
	return err
}

// restarts is how often it was started again: what the kubelet counts, and kube-state-metrics shows.
func (c *collector) restarts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.begun-1, 0)
}

// begin begins a life.
func (c *collector) begin(text string) error {
	if text != "" {
		if err := c.configure(text); err != nil {
			return err
		}
	}
	base := filepath.Join(c.dir, "common.yaml")
	if err := os.WriteFile(base, []byte(os.Expand(common, func(key string) string { return c.values[key] })), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(c.binary, "--config", base, "--config", c.config(), "--implicit-health=off",
		"--state-dir", filepath.Join(c.dir, "state")) //nolint:gosec // the caller's binary
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd.Stderr, cmd.Stdout = log, log
	err = c.launch(cmd)
	if cerr := log.Close(); err != nil || cerr != nil {
		return errors.Join(err, cerr)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	c.mu.Lock()
	c.cmd, c.ended = cmd, ended
	c.begun++
	c.mu.Unlock()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		select {
		case <-ended:
			text, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("%w:\n%s", errEnded, text)
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if c.ask(c.ctx) != "" {
			return nil
		}
	}
	return errors.New("it does not answer")
}

// signal sends a signal; end waits for the end of the life as well.
func (c *collector) signal(s syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return nil
	}
	return c.cmd.Process.Signal(s)
}

func (c *collector) end(s syscall.Signal) error {
	err := c.signal(s)
	c.mu.Lock()
	ended := c.ended
	c.cmd = nil
	c.mu.Unlock()
	if ended != nil {
		<-ended
	}
	return err
}

// ask scrapes; empty = no answer.
func (c *collector) ask(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.host+":8888/metrics", nil)
	if err != nil {
		return ""
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

// load sends for as long as the recording runs, or until the function it returns is called.
func (c *collector) load(o loadgen.Options) (stop func()) {
	end := make(chan struct{})
	o.Run, o.To, o.Stop, o.OnUnknown = "outage", []string{"grpc://" + c.host + ":4317"}, end, ledger.ModeDrop
	if o.Signals == nil {
		o.Signals = []item.Signal{item.Traces}
	}
	if o.Producers == 0 {
		o.Producers = 1
	}
	o.For, o.Timeout = time.Hour, 2*time.Second
	c.loads.Go(func() {
		for c.ctx.Err() == nil {
			if _, err := loadgen.Run(c.ctx, o); err != nil && c.ctx.Err() == nil {
				select { // a process that is down
				case <-time.After(200 * time.Millisecond):
				case <-end:
				case <-c.ctx.Done():
				}
			}
			select {
			case <-end:
				return
			default:
			}
		}
	})
	return sync.OnceFunc(func() { close(end) })
}

// at waits for a scrape of the recording and notes what is done then.
func (c *collector) at(scrape int, what string) error {
	if err := c.stage.rec.wait(c.ctx, scrape); err != nil {
		return err
	}
	c.stage.rec.mark(c, what)
	return nil
}

func (c *collector) close() {
	c.loads.Wait()
	_ = c.end(syscall.SIGKILL)
	if c.disk != nil {
		c.disk.Close()
	}
	for _, b := range c.backends {
		_ = b.Stop()
	}
}
