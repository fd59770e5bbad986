// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runName is the ledger's name of every run; each has a directory of its own.
const runName = "compare"

// A load is what is sent.
type load struct {
	length    time.Duration
	rate      int // items per second
	items     int // per request
	itemBytes int
}

// summary is the last line of holdfast load.
type summary struct {
	Acked uint64 `json:"acked"`
}

// begin starts the load.
func (r *run) begin(l load) step {
	return func(context.Context) (err error) {
		r.load, err = spawn(r.dir, "load", r.tools, []string{"load", "--run", runName, "--to", "grpc://" + r.in, "--out", r.notes,
			"--for", l.length.String(), "--rate", strconv.Itoa(l.rate), "--items", strconv.Itoa(l.items), "--item-bytes",
			strconv.Itoa(l.itemBytes), "--producers", "2", "--timeout", "5s", "--seed", "1"}, nil)
		if err == nil {
			r.children.add(r.load)
		}
		return err
	}
}

// sent waits until the load has ended, which it does not before everything has a definite answer.
func (r *run) sent(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("the load did not end: %w", ctx.Err())
	case <-r.load.done:
		return r.load.err
	}
}

// summary is what the load was told, once it has ended.
func (r *run) summary() (s summary, ended bool) {
	if !r.load.ended() {
		return s, false
	}
	lines := strings.Split(strings.TrimSpace(r.load.out.String()), "\n")
	return s, json.Unmarshal([]byte(lines[len(lines)-1]), &s) == nil
}

// A backend is a holdfast sink that can be told what to do wrong.
type backend struct {
	*child
	addr, control string
}

func (r *run) startBackend(ctx context.Context) (*backend, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	control, err := freeAddr()
	if err != nil {
		return nil, err
	}
	c, err := spawn(r.dir, "backend", r.tools, []string{"sink", "--name", "backend", "--grpc", addr, "--control", control,
		"--out", r.notes}, nil)
	if err != nil {
		return nil, err
	}
	r.children.add(c)
	b := &backend{child: c, addr: addr, control: control}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if _, err := b.stored(ctx); err == nil {
			return b, nil
		}
		if err := pause(20 * time.Millisecond)(ctx); err != nil || c.ended() {
			return nil, errors.New("the backend does not listen\n" + tail(c.log))
		}
	}
}

// setFaults replaces what the backend does wrong.
func (b *backend) setFaults(ctx context.Context, faults ...string) error {
	body, err := json.Marshal(append([]string{}, faults...))
	if err != nil {
		return err
	}
	return b.call(ctx, http.MethodPut, "/faults", body, nil)
}

// stored is how many items the backend has taken, repetitions included.
func (b *backend) stored(ctx context.Context) (n uint64, err error) {
	var state struct {
		Stored map[string]uint64 `json:"stored"`
	}
	err = b.call(ctx, http.MethodGet, "/state", nil, &state)
	for _, items := range state.Stored {
		n += items
	}
	return n, err
}

func (b *backend) call(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+b.control+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	return nil
}

// stop ends the backend, which completes its notes.
func (b *backend) stop(ctx context.Context) error { return b.end(ctx, syscall.SIGTERM) }

// queued is how much the collector says it has queued, in its own unit: 0 is what counts.
func (r *run) queued(ctx context.Context) (sum float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("the collector's metrics: %w", err)
	}
	defer response.Body.Close()
	return sumOf(response.Body, "otelcol_exporter_queue_size")
}

// sumOf adds up the series of a metric.
func sumOf(in io.Reader, name string) (sum float64, err error) {
	found := false
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		series := lines.Text()
		if series[:max(0, strings.IndexAny(series, "{ "))] != name {
			continue
		}
		v, err := strconv.ParseFloat(series[strings.LastIndexByte(series, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", series, err)
		}
		sum, found = sum+v, true
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if !found {
		return 0, fmt.Errorf("no series of %s", name)
	}
	return sum, nil
}

// noteRestart tells the ledger that the collector was started again.
func (r *run) noteRestart(began time.Time) error {
	f, err := os.OpenFile(filepath.Join(r.notes, "faults.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, `{"t0":%d,"t1":%d,"where":"collector","fault":"restart","hits":1}`+"\n", began.UnixMicro(),
		time.Now().UnixMicro())
	return errors.Join(err, f.Close())
}

// judge asks the ledger. Both systems are judged by the same notes: what senders were told, what the backend stored.
func (r *run) judge(ctx context.Context) error {
	args := []string{"ledger", "verify", r.notes, "--queue", "none", "--control-run", "none", "--quiet-for", "2s", "--json"}
	for _, e := range r.scenario.expect {
		args = append(args, "--expect", e)
	}
	text, err := exec.CommandContext(ctx, r.tools, args...).Output()
	if code := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &code) || code.ExitCode() > 2) {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := json.Unmarshal(text, &r.out.verdict); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	r.out.judged = true
	return nil
}
