// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
	"github.com/holdfast-telemetry/holdfast/internal/drill/lookout"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

const (
	// drainLimit is for what waits at the end, and quiet is how long nothing may arrive then.
	drainLimit = 120 * time.Second
	quiet      = 1500 * time.Millisecond
)

// begin begins a life of the collector.
func (m *room) begin(ctx context.Context) error {
	var on child.Thread
	if m.disk != nil {
		on = m.disk.Do
	}
	c, err := child.Start(ctx, m.play.Binary, m.args, m.vars, m.log, m.heard, on)
	if err != nil {
		return err
	}
	m.child = c
	if m.unwatch == nil {
		m.admin = admin.NewClient(m.path("state", admin.SocketName))
		watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
		m.unwatch = cancel
		m.watcher.Go(func() { m.watch(watch) })
	}
	return nil
}

// heard takes over what the log says of switches, reloads and mistakes.
func (m *room) heard(l child.Line) {
	text, failover := strings.CutPrefix(l.Text, "Failover: ")
	config := strings.HasPrefix(l.Text, "Config ") && m.reloads()
	if !failover && !config && l.Level != "error" || failover && strings.HasPrefix(text, "queue and retry settings") {
		return
	}
	for _, f := range []string{"signal", "exporter", "from", "to", "reason"} {
		if v := l.Field(f); v != "" && v != "none" {
			text += " " + f + "=" + v
		}
	}
	if l.Field("reason") != "good" { // what a good probe says of the last error is old
		text += words.Because(l.Field("error"))
	}
	m.tell(l.At, "log", text)
}

// reloads reports whether the scenario is about reloads.
func (m *room) reloads() bool {
	return slices.ContainsFunc(m.scene.Steps, func(s scenario.Step) bool { return s.Do == scenario.Reload })
}

// atRisk adds to the bound of duplicates what may come twice if the process dies now: what is owed, for that may be in
// flight, and what was delivered in the last moments, for its cursor may not be written yet; and what the collector counts
// itself, which a restart forgets (journal, G9).
func (m *room) atRisk(ctx context.Context) error {
	text, err := child.Scrape(ctx, m.to.Metrics)
	if err != nil {
		return err
	}
	n := m.look(ctx)
	// What one destination of a pipeline may get twice every one may.
	m.bound += (int64(n.waiting()) + int64(m.scene.Rate())) * m.play.Topology.Copies()
	m.bound += child.Sum(text, child.Doubled)
	return nil
}

// kill is kill -9, and a new start.
func (m *room) kill(ctx context.Context) error {
	if err := m.atRisk(ctx); err != nil {
		return err
	}
	began := time.Now()
	m.child.Kill()
	m.say("kill -9")
	return m.again(ctx, began)
}

// term is SIGTERM, and a new start.
func (m *room) term(ctx context.Context) error {
	if err := m.atRisk(ctx); err != nil {
		return err
	}
	began := time.Now()
	code, err := m.child.Stop(ctx)
	if err != nil {
		return &brokenError{verdict.InOrder, err.Error()}
	}
	m.say("SIGTERM: it ended with exit code %d after %s", code, words.Seconds(time.Since(began)))
	if code != 0 { // the ledger says what it cost
		text := ""
		if in := m.memory(); in != "" {
			text = "; in memory is the queue of " + in
		}
		m.out.Breaks(verdict.InOrder, nil, "exit code %d%s", code, text)
	}
	return m.again(ctx, began)
}

// again begins the next life, and notes it for the ledger.
func (m *room) again(ctx context.Context, from time.Time) error {
	if err := m.begin(ctx); err != nil {
		return &brokenError{verdict.Running, "it does not start again: " + err.Error()}
	}
	m.say("a new process is ready after %s", words.Seconds(time.Since(from)))
	m.lives++
	return ledger.AppendFault(m.notes(), ledger.Fault{T0: from.UnixMicro(), T1: time.Now().UnixMicro(), Where: "holdfast",
		Fault: ledger.Restart, Hits: 1})
}

// end ends load and process in order and returns the books of the last life; late says that not everything drained.
func (m *room) end(ctx context.Context) (books *ledger.Metrics, late error, err error) {
	if err := m.stopLoads(); err != nil {
		return nil, nil, err
	}
	var since time.Time
	var had uint64
	late = m.until(ctx, drainLimit, "nothing queued, nothing parked, backends quiet", func(n *look) bool {
		has := uint64(0)
		for _, s := range n.stored {
			has += s
		}
		if n.status == nil || n.waiting() > 0 || has != had || since.IsZero() {
			since, had = n.at, has
			return false
		}
		return n.at.Sub(since) > quiet
	})
	var slow *lookout.LateError
	if late != nil && !errors.As(late, &slow) {
		return nil, nil, late
	}
	text, err := child.Scrape(ctx, m.to.Metrics)
	if err != nil {
		return nil, late, err
	}
	m.bound += child.Sum(text, child.Doubled)
	if peak := m.peak(); peak > 0 {
		m.say("it took %d MiB of memory at most", peak>>20)
		if most := m.scene.MaxMiB; most > 0 && peak>>20 > most {
			m.out.Breaks(verdict.Memory, nil, "%d MiB, and %d MiB were the bound", peak>>20, most)
		}
	}
	m.unwatch()
	m.watcher.Wait()
	if code, err := m.child.Stop(ctx); err != nil {
		return nil, late, err
	} else if code != 0 {
		m.out.Breaks(verdict.InOrder, nil, "the process ended with exit code %d", code)
	}
	if err := m.stopBackends(); err != nil {
		return nil, late, err
	}
	books, err = ledger.ParseMetrics(bytes.NewReader(text))
	return books, late, err
}

// peak is the most memory this life had, in bytes; 0 = the kernel does not say.
func (m *room) peak() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.child.PID()))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64) // 0 = not known
			return kib << 10
		}
	}
	return 0
}

// memory names the queues that do not outlive a process.
func (m *room) memory() string {
	var in []string
	for _, p := range m.play.Topology.Pipelines {
		for _, d := range p.Destinations {
			if d.Queued && !p.Durable {
				in = append(in, p.ID+" → "+d.Label)
			}
		}
	}
	return strings.Join(in, ", ")
}

// mayDrop reports whether some queue gives up its oldest when it is full.
func (m *room) mayDrop() bool {
	for _, s := range m.play.Topology.Storages {
		if s.DropsOldest {
			return true
		}
	}
	return false
}
