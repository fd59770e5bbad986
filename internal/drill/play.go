// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// The promises, as a verdict names them.
const (
	promiseLost      = "nothing acknowledged is lost"
	promiseEach      = "every destination gets everything"
	promiseMade      = "nothing is made up or damaged"
	promiseTwice     = "duplicates stay within their bound"
	promiseBooks     = "the books balance"
	promiseSwitch    = "data goes to the next level"
	promiseAccept    = "the door goes on accepting"
	promiseReturn    = "data comes back to the first level"
	promiseDrain     = "what waited is delivered"
	promiseRunning   = "the process goes on"
	promiseInOrder   = "SIGTERM ends it in order"
	promiseOldConfig = "a broken configuration changes nothing"
)

const (
	seeTime    = 20 * time.Second // for a fault to be noticed
	switchTime = 40 * time.Second // for a silent one there is a timeout in it
	returnTime = 40 * time.Second
	trialTime  = 6 * time.Second
	// lookOn is how long a fault lasts after everything that must come of it has come.
	lookOn = 1500 * time.Millisecond
	// roomQuiet is how long nothing may arrive at the end.
	roomQuiet = 1500 * time.Millisecond
)

// scene is one scenario of a configuration.
type scene struct {
	name, title string
	why         string // not empty: it does not apply, and why
	poor        bool
	play        func(context.Context, *room) error
}

// brokenError is a promise that was seen not to be kept.
type brokenError struct{ promise, text string }

func (e *brokenError) Error() string { return e.promise + ": " + e.text }

// idleError says that a fault was never met.
type idleError struct{ text string }

func (e *idleError) Error() string { return e.text }

// owed makes a promise of what was waited for: that it did not come is not only late.
func owed(promise string, err error) error {
	var late *lateError
	if errors.As(err, &late) {
		return &brokenError{promise, late.Error()}
	}
	return err
}

// faultKind is what a backend may do wrong; name is the scenario's.
type faultKind struct {
	name, text, title string
	stays             bool // data does not go to another level
	secure            bool // it needs TLS
}

var faultKinds = []faultKind{
	{name: "refused", text: "refuse", title: "connections to %s are refused"},
	{name: "blackhole", text: "blackhole", title: "%s takes connections and never answers"},
	{name: "hang", text: "hang", title: "%s reads everything and never answers"},
	{name: "reset", text: "reset:headers", title: "%s resets the connection when a request begins"},
	{name: "unauthenticated", text: "status:UNAUTHENTICATED", title: "%s does not know who sends any more"},
	{name: "expired", text: "tls:expired", title: "the certificate of %s expires", secure: true},
	{name: "unavailable", text: "status:UNAVAILABLE", title: "%s answers that it is unavailable"},
	{name: "throttle", text: "status:RESOURCE_EXHAUSTED,retry_after=2s", title: "%s asks for two seconds of silence, again and again",
		stays: true},
	{name: "reject", text: "reject_marked", title: "%s rejects one item in 97 for good", stays: true},
	{name: "flap", text: "flap:1s/1s", title: "%s comes and goes every second", stays: true},
}

// scenes derives the scenarios from a topology.
func scenes(t *topology.Topology) []scene {
	out := []scene{{name: "control", title: "no fault", play: func(ctx context.Context, m *room) error { return rest(ctx, 2*time.Second) }}}
	for _, b := range t.Backends {
		for _, k := range faultKinds {
			out = append(out, backendScene(k.name+":"+b.ID, k, b))
		}
	}
	for _, c := range t.Connectors() {
		out = append(out, allDownScene("all-down:"+c, t, c))
	}
	return append(out, killScene("kill"), termScene("term"), reloadScene("reload-broken"))
}

// named are scenarios that are played only when somebody asks for them: the tests by hand of two public guides.
func named(t *topology.Topology) []scene {
	drop := faultKind{name: "drop", text: "drop", title: "packets to %s are dropped, as behind a firewall's DROP"}
	first := t.Backends[0]
	for _, p := range t.Pipelines { // the one that is asked first
		for _, d := range p.Destinations {
			if b, ok := t.Backend(d.Levels[0][0]); ok && d.Connector {
				first = b
			}
		}
	}
	files := killScene("seed-a-files")
	files.title = "guide A, look at the queue's files: a backlog is on disk, and is there after kill -9"
	kill := killScene("seed-a-kill-pod")
	kill.title = "guide A, kill a pod: " + kill.title
	dropA, dropB := backendScene("seed-a-drop-packets", drop, first), backendScene("seed-b-block", drop, first)
	dropA.title, dropB.title = "guide A, drop packets: "+dropA.title, "guide B, block the primary: "+dropB.title
	return []scene{kill, dropA, files, dropB}
}

// well waits until every signal has reached the first level of every destination.
func (m *room) well(ctx context.Context) error {
	t := m.rehearsal.topology
	err := m.until(ctx, seeTime+longestLinger(t), "telemetry at the first level of every destination", func(n *look) bool {
		for _, p := range t.Pipelines {
			for _, d := range p.Destinations {
				for _, id := range d.Levels[0] {
					if _, ok := m.backends[id]; ok && n.stored[id] == 0 {
						return false
					}
				}
			}
		}
		return n.acked > 0
	})
	var late *lateError
	if errors.As(err, &late) {
		return &idleError{"nothing flows without a fault: " + late.Error()}
	}
	if err != nil {
		return err
	}
	// What a new configuration is told while it is on trial is not final; with --hurry that is over soon.
	err = m.until(ctx, trialTime, "the trial of the configuration is over", func(n *look) bool {
		return n.status != nil && n.status.Config.State != "trial"
	})
	if errors.As(err, &late) {
		m.say("the configuration is still on trial")
		return nil
	}
	return err
}

func longestLinger(t *topology.Topology) (most time.Duration) {
	for _, p := range t.Pipelines {
		most = max(most, p.Linger)
	}
	return most
}

// routes calls ok for the status of every route of a connector, or of all; false if there is none, or ok says so.
func (n *look) routes(label string, ok func(*status.Route) bool) bool {
	found := false
	if n.status == nil {
		return false
	}
	for i := range n.status.Failover {
		r := &n.status.Failover[i]
		if r.Connector == label {
			if found = true; !ok(r) {
				return false
			}
		}
	}
	return found
}

// accepts waits until the door has accepted more, where a queue promises that.
func (m *room) accepts(ctx context.Context) error {
	for _, p := range m.rehearsal.topology.Pipelines {
		for _, d := range p.Destinations {
			if !d.Queued {
				return rest(ctx, lookOn)
			}
		}
	}
	n, _ := m.latest()
	had := n.acked
	err := m.until(ctx, seeTime, "more items acknowledged while the fault lasts", func(n *look) bool { return n.acked > had+roomItems })
	if err := owed(promiseAccept, err); err != nil {
		return err
	}
	return rest(ctx, lookOn)
}

// home heals everything and waits until all data goes to the first levels again.
func (m *room) home(ctx context.Context) error {
	idle, err := m.heal()
	if err != nil {
		return err
	}
	began := time.Now()
	t := m.rehearsal.topology
	err = m.until(ctx, returnTime, "all data at the first level again, and nothing parked", func(n *look) bool {
		for _, label := range t.Connectors() {
			if !n.routes(label, func(r *status.Route) bool {
				// A level that takes all data and is watched for a while yet is home.
				return r.ActiveLevel == 0 && (r.Levels[0].State == "healthy" || r.Levels[0].State == "suspect") && r.Emergency.Items == 0
			}) {
				return false
			}
		}
		return n.status != nil
	})
	if err := owed(promiseReturn, err); err != nil {
		return err
	}
	if len(t.Connectors()) > 0 {
		m.say("all data is at the first level %s after everything was well", seconds(time.Since(began)))
	}
	if len(idle) > 0 {
		return &idleError{"the fault was never met at " + strings.Join(idle, ", ")}
	}
	return nil
}

// expose lets the levels above a backend fail, so that it is the one that is asked.
func (m *room) expose(ctx context.Context, id string) error {
	for label, above := range m.rehearsal.topology.Above(id) {
		for _, a := range above {
			if _, ok := m.backends[a]; ok && !m.isWrong(a) { // the one above two connectors is away already
				if err := m.wrong(a, "refuse"); err != nil {
					return err
				}
			}
		}
		level := m.levelOf(label, id)
		err := m.until(ctx, switchTime, label+" sends to "+id, func(n *look) bool {
			return n.routes(label, func(r *status.Route) bool { return r.ActiveLevel == level })
		})
		if err := owed(promiseSwitch, err); err != nil {
			return err
		}
	}
	return nil
}

func (m *room) levelOf(label, id string) int {
	for _, p := range m.rehearsal.topology.Pipelines {
		for i := range p.Destinations {
			if d := &p.Destinations[i]; d.Label == label {
				return d.Level(id)
			}
		}
	}
	return -1
}

func backendScene(name string, k faultKind, b topology.Backend) scene {
	s := scene{name: name, title: fmt.Sprintf(k.title, b.ID), poor: k.text == "reject_marked"}
	if k.secure && !b.TLS {
		s.why = b.ID + " does not use TLS"
	}
	texts := []string{k.text}
	if k.secure { // new connections meet it; those that are there are cut
		texts = append(texts, "refuse,for=100ms")
	}
	s.play = func(ctx context.Context, m *room) error {
		if err := m.expose(ctx, b.ID); err != nil {
			return err
		}
		if err := m.wrong(b.ID, texts...); err != nil {
			return err
		}
		err := m.until(ctx, seeTime+longestLinger(m.rehearsal.topology), "the fault is met", func(*look) bool { return m.hits(b.ID) > 0 })
		if err != nil {
			return &idleError{"the fault was never met at " + b.ID}
		}
		if !k.stays {
			if err := m.leaves(ctx, b); err != nil {
				return err
			}
		} else if err := rest(ctx, 4*time.Second); err != nil {
			return err
		}
		if err := m.accepts(ctx); err != nil {
			return err
		}
		return m.home(ctx)
	}
	return s
}

// leaves waits until no connector sends to the backend any more.
func (m *room) leaves(ctx context.Context, b topology.Backend) error {
	began := time.Now()
	for _, label := range m.rehearsal.topology.Connectors() {
		level := m.levelOf(label, b.ID)
		if level < 0 {
			continue
		}
		err := m.until(ctx, switchTime+b.Timeout, label+" does not send to "+b.ID+" any more", func(n *look) bool {
			return n.routes(label, func(r *status.Route) bool {
				return r.ActiveLevel != level && (r.Levels[level].State == "down" || r.Levels[level].State == "probing")
			})
		})
		if err := owed(promiseSwitch, err); err != nil {
			return err
		}
		m.say("%s sends elsewhere, or holds, %s after the fault was met", label, seconds(time.Since(began)))
	}
	return nil
}

func allDownScene(name string, t *topology.Topology, label string) scene {
	s := scene{name: name, title: "every backend of " + label + " is gone, then all come back"}
	var ids []string
	for _, p := range t.Pipelines {
		for _, d := range p.Destinations {
			for _, l := range d.Levels {
				for _, id := range l {
					if _, ok := t.Backend(id); ok && d.Label == label && !slices.Contains(ids, id) {
						ids = append(ids, id)
					}
				}
			}
		}
	}
	s.play = func(ctx context.Context, m *room) error {
		for _, id := range ids {
			if err := m.wrong(id, "refuse"); err != nil {
				return err
			}
		}
		err := m.until(ctx, switchTime, "all levels of "+label+" are down", func(n *look) bool {
			return n.routes(label, func(r *status.Route) bool {
				return r.AllDown || r.ActiveLevel < 0 || r.Levels[r.ActiveLevel].Emergency
			})
		})
		if err := owed(promiseSwitch, err); err != nil {
			return err
		}
		if err := m.accepts(ctx); err != nil {
			return err
		}
		n, _ := m.latest()
		m.say("with every backend gone %s items wait in the queue, %s are in the emergency file", count(int64(n.queued())),
			count(int64(n.parked())))
		return m.home(ctx)
	}
	return s
}

func (n *look) queued() uint64 {
	if n.status == nil {
		return 0
	}
	return n.status.Books.Queued
}

func (n *look) parked() uint64 {
	if n.status == nil {
		return 0
	}
	return n.status.Books.Parked
}

// backlog lets every backend go away until something waits.
func (m *room) backlog(ctx context.Context) error {
	for _, b := range m.rehearsal.topology.Backends {
		if err := m.wrong(b.ID, "refuse"); err != nil {
			return err
		}
	}
	err := m.until(ctx, switchTime, "a backlog of two seconds", func(n *look) bool { return n.queued()+n.parked() >= 2*roomRate })
	var late *lateError
	if errors.As(err, &late) {
		return &idleError{"no backlog: " + late.Error()}
	}
	if err == nil {
		n, _ := m.latest()
		m.say("%s items wait in the queue, %s are in the emergency file", count(int64(n.queued())), count(int64(n.parked())))
	}
	return err
}

// memory names the queues that do not outlive a process.
func (m *room) memory() string {
	var in []string
	for _, p := range m.rehearsal.topology.Pipelines {
		for _, d := range p.Destinations {
			if d.Queued && !p.Durable {
				in = append(in, p.ID+" → "+d.Label)
			}
		}
	}
	if len(in) == 0 {
		return ""
	}
	return "; in memory is the queue of " + strings.Join(in, ", ")
}

// restarted notes a new life for the ledger.
func (m *room) restarted(from time.Time) error {
	m.lives++
	return ledger.AppendFault(m.notes(), ledger.Fault{T0: from.UnixMicro(), T1: time.Now().UnixMicro(), Where: "holdfast",
		Fault: ledger.Restart, Hits: 1})
}

func killScene(name string) scene {
	return scene{name: name, title: "kill -9 while data flows, and again with a backlog", play: func(ctx context.Context, m *room) error {
		// Enough is delivered that a process which forgets what it has delivered is told from one that may repeat a little.
		if err := rest(ctx, 4*time.Second); err != nil {
			return err
		}
		for round := range 2 {
			if round == 1 {
				if err := m.backlog(ctx); err != nil {
					return err
				}
			}
			if err := m.atRisk(ctx); err != nil {
				return err
			}
			began := time.Now()
			m.child.kill()
			m.say("kill -9")
			if err := m.begin(ctx); err != nil {
				return &brokenError{promiseRunning, "it does not start again: " + err.Error()}
			}
			m.say("a new process is ready after %s", seconds(time.Since(began)))
			if err := m.restarted(began); err != nil {
				return err
			}
		}
		return m.home(ctx)
	}}
}

func termScene(name string) scene {
	return scene{name: name, title: "SIGTERM with a backlog, then a new start", play: func(ctx context.Context, m *room) error {
		if err := m.backlog(ctx); err != nil {
			return err
		}
		if err := m.atRisk(ctx); err != nil {
			return err
		}
		began := time.Now()
		code, err := m.child.stop(ctx)
		if err != nil {
			return &brokenError{promiseInOrder, err.Error()}
		}
		m.say("SIGTERM: it ended with exit code %d after %s", code, seconds(time.Since(began)))
		if code != 0 { // the ledger says what it cost
			m.breaks(promiseInOrder, nil, "exit code %d%s", code, m.memory())
		}
		if err := m.begin(ctx); err != nil {
			return &brokenError{promiseRunning, "it does not start again: " + err.Error()}
		}
		if err := m.restarted(began); err != nil {
			return err
		}
		return m.home(ctx)
	}}
}

func reloadScene(name string) scene {
	return scene{name: name, title: "SIGHUP with a broken configuration: the good one goes on", play: func(ctx context.Context, m *room) error {
		last := m.files[len(m.files)-1]
		good, err := os.ReadFile(last)
		if err != nil {
			return err
		}
		n, _ := m.latest()
		if n.status == nil {
			return &idleError{"the process cannot be asked"}
		}
		was, before := n.status.Config.Running.SHA256, len(n.status.Config.Attempts)
		if err := os.WriteFile(last, append([]byte("exporters: {no_such_exporter: {}}\nservice: [\n"), good...), 0o600); err != nil {
			return err
		}
		offered := time.Now()
		if err := m.signal(syscall.SIGHUP); err != nil {
			return err
		}
		err = m.until(ctx, seeTime, "the broken configuration was looked at", func(n *look) bool {
			return n.status != nil && len(n.status.Config.Attempts) > 0 &&
				(len(n.status.Config.Attempts) > before || n.status.Config.Attempts[0].Time.After(offered))
		})
		if err != nil {
			return errors.Join(owed(promiseOldConfig, err), os.WriteFile(last, good, 0o600))
		}
		n, _ = m.latest()
		m.say("the broken configuration: %s %s", n.status.Config.Attempts[0].State, n.status.Config.Attempts[0].Reason)
		if n.status.Config.Running.SHA256 != was {
			return &brokenError{promiseOldConfig, "another configuration runs"}
		}
		if err := m.accepts(ctx); err != nil {
			return err
		}
		if err := os.WriteFile(last, good, 0o600); err != nil {
			return err
		}
		if err := m.signal(syscall.SIGHUP); err != nil {
			return err
		}
		return m.accepts(ctx)
	}}
}
