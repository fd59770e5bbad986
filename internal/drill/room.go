// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

const (
	// roomRate is little, in items per second: several scenarios are played at once beside whatever else runs here.
	roomRate      = 900
	roomProducers = 2 // per signal and receiver
	roomItems     = 25
	// firstBackend is the port of the first backend of a room.
	firstBackend = 14317
	// sampleEvery is how often the picture has a point.
	sampleEvery = 250 * time.Millisecond
	// poisonEvery marks one item in so many, where a backend rejects what is marked.
	poisonEvery = 97
)

// room is where one scenario is played on the user's configuration: backends, load and notes in this process, the
// collector as a child. Its methods are for one goroutine, unless they say otherwise.
type room struct {
	rehearsal *Rehearsal
	out       *report.Scenario
	dir       string
	host      string
	guard     net.Listener
	log       *os.File
	to        *topology.Redirection
	backends  map[string]*mockbackend.Backend
	files     []string // the copies of the configuration
	args      []string
	vars      []string

	child *child
	admin *admin.Client
	loads []*load
	via   map[itemSource]string // which receiver took what a producer sends; under mu
	bound int64
	lives int  // after the first
	poor  bool // some backend rejects what is marked

	unwatch context.CancelFunc
	watcher sync.WaitGroup
	mu      struct {
		sync.Mutex
		now     *look
		changed chan struct{}
		acked   uint64
		wrong   map[string]*report.Fault // in force, by backend
	}
}

type itemSource struct {
	signal   item.Signal
	producer uint16
}

// look is how everything is at one moment.
type look struct {
	at     time.Time
	status *status.Status // nil: it does not answer
	stored map[string]uint64
	acked  uint64
}

// newRoom begins: backends are up, nothing else.
func (r *Rehearsal) newRoom(out *report.Scenario, dir string) (*room, error) {
	m := &room{rehearsal: r, out: out, dir: dir, backends: map[string]*mockbackend.Backend{}, via: map[itemSource]string{}}
	m.mu.now, m.mu.changed, m.mu.wrong = &look{stored: map[string]uint64{}}, make(chan struct{}), map[string]*report.Fault{}
	if err := m.prepare(); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *room) path(elem ...string) string { return filepath.Join(append([]string{m.dir}, elem...)...) }
func (m *room) notes() string              { return m.path("notes") }

func (m *room) prepare() (err error) {
	for _, dir := range []string{m.notes(), m.path("state"), m.path("certificates")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if m.log, err = os.Create(m.path("holdfast.log")); err != nil {
		return err
	}
	if m.host, m.guard, err = ownHost(); err != nil {
		return err
	}
	t := m.rehearsal.topology
	place := topology.Place{Host: m.host, Dir: m.dir, Backends: map[string]string{}, CA: m.path("certificates", "ca.pem"),
		Cert: m.certificate, Hurry: m.rehearsal.o.Hurry}
	var ca []byte
	for i, b := range t.Backends {
		addr := net.JoinHostPort(m.host, strconv.Itoa(firstBackend+i))
		o := mockbackend.Options{Name: sinkName(b.ID), Dir: m.notes(), TLS: b.TLS}
		if o.GRPC = addr; b.HTTP {
			o.GRPC, o.HTTP = "", addr
		}
		s, err := mockbackend.Start(o)
		if err != nil {
			return fmt.Errorf("backend of %s: %w", b.ID, err)
		}
		m.backends[b.ID], place.Backends[b.ID] = s, addr
		ca = append(ca, s.CA()...)
	}
	if err := os.WriteFile(place.CA, ca, 0o600); err != nil {
		return err
	}
	m.vars = []string{"SSL_CERT_FILE=" + place.CA, "SSL_CERT_DIR=" + m.path("certificates", "none")}
	m.to = t.Redirect(place)
	for _, f := range m.to.Files {
		if err := os.MkdirAll(filepath.Dir(f), 0o750); err != nil {
			return err
		}
	}
	return m.configure()
}

// sinkName is what the notes call a backend.
func sinkName(id string) string { return strings.NewReplacer("/", "-", " ", "-").Replace(id) }

// certificate writes what the backend's authority issued for clients.
func (m *room) certificate(id string) (cert, key string) {
	cert, key = m.path("certificates", sinkName(id)+".pem"), m.path("certificates", sinkName(id)+".key")
	c, k := m.backends[id].ClientCertificate()
	_ = os.WriteFile(cert, c, 0o600) // the collector says so if it is not there
	_ = os.WriteFile(key, k, 0o600)
	return cert, key
}

// configure writes the copies of the configuration and the command line.
func (m *room) configure() error {
	m.args = []string{"run", "--implicit-health=off", "--state-dir", m.path("state")}
	for i, text := range m.rehearsal.texts {
		name := m.path(fmt.Sprintf("config-%d.yaml", i))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
		m.files = append(m.files, name)
		m.args = append(m.args, "--config", name)
	}
	for _, s := range append(append([]string{}, m.rehearsal.o.Sets...), m.to.Sets...) {
		m.args = append(m.args, "--set", s)
	}
	return nil
}

// since is a time of the report.
func (m *room) since(t time.Time) float64 { return max(t.Sub(m.out.Began).Seconds(), 0) }

// say tells an event. It may be called by several goroutines.
func (m *room) say(format string, args ...any) {
	m.tell(time.Now(), "drill", fmt.Sprintf(format, args...))
}

func (m *room) tell(at time.Time, who, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out.Events = append(m.out.Events, report.Event{At: m.since(at), Who: who, Text: text})
}

// begin begins a life of the collector.
func (m *room) begin(ctx context.Context) error {
	c, err := start(ctx, m.rehearsal.o.Binary, m.args, m.vars, m.log, func(l logLine) {
		if strings.HasPrefix(l.text, "Failover: ") || l.level == "error" {
			text := strings.TrimPrefix(l.text, "Failover: ")
			for _, f := range []string{"signal", "exporter", "from", "to"} {
				if v := l.field(f); v != "" {
					text += " " + f + "=" + v
				}
			}
			m.tell(l.at, "log", text+because(l.field("error")))
		}
	})
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

// watch looks again and again until ctx ends, and takes samples.
func (m *room) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last time.Time
	for {
		n := m.look(ctx)
		m.mu.Lock()
		m.mu.now = n
		close(m.mu.changed)
		m.mu.changed = make(chan struct{})
		if n.at.Sub(last) >= sampleEvery {
			last = n.at
			m.sampleLocked(n)
		}
		m.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *room) sampleLocked(n *look) {
	s := report.Sample{At: m.since(n.at), Acked: n.acked}
	if n.status != nil {
		s.Queued, s.Parked = n.status.Books.Queued, n.status.Books.Parked
	} else if k := len(m.out.Samples); k > 0 { // nobody can be asked: it is where it was
		s.Queued, s.Parked = m.out.Samples[k-1].Queued, m.out.Samples[k-1].Parked
	}
	for _, b := range m.rehearsal.topology.Backends {
		s.Delivered = append(s.Delivered, n.stored[b.ID])
	}
	m.out.Samples = append(m.out.Samples, s)
}

func (m *room) look(ctx context.Context) *look {
	n := &look{stored: map[string]uint64{}}
	for id, b := range m.backends {
		n.stored[id] = stored(b)
	}
	m.mu.Lock()
	n.acked = m.mu.acked
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var st status.Status
	if m.admin.Get(ctx, "/status", &st) == nil { // no answer is what a dead process gives
		n.status = &st
	}
	n.at = time.Now()
	return n
}

// latest is the last look, and a channel that is closed with the next.
func (m *room) latest() (*look, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.now, m.mu.changed
}

// until waits for a look that is as wanted. That it does not come in time is a *lateError.
func (m *room) until(ctx context.Context, limit time.Duration, what string, ok func(*look) bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	_, changed := m.latest()
	for {
		select {
		case <-changed:
		case <-m.child.done:
			return &endedError{what: what, tail: m.child.last()}
		case <-timer.C:
			return &lateError{what, limit}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var n *look
		if n, changed = m.latest(); ok(n) {
			return nil
		}
	}
}

// endedError says that the collector ended by itself.
type endedError struct{ what, tail string }

func (e *endedError) Error() string {
	return "holdfast ended by itself while this was waited for: " + e.what + "\n" + e.tail
}

// send begins a load for every receiver.
func (m *room) send(ctx context.Context) error {
	t := m.rehearsal.topology
	to := map[string][]string{}
	for i, d := range t.Doors {
		to[d.Receiver] = append(to[d.Receiver], m.to.Doors[i])
	}
	signals := 0
	for receiver := range to {
		signals += len(t.SignalsOf(receiver))
	}
	for receiver, urls := range to {
		l := &load{end: make(chan struct{})}
		o := loadgen.Options{Run: runName(m.out.Name), Dir: m.notes(), To: urls, Want: "any", Stop: l.end, Producers: roomProducers,
			Items: roomItems, ItemBytes: itemBytes, Timeout: 5 * time.Second}
		if m.poor {
			o.PoisonEvery = poisonEvery
		}
		for _, word := range t.SignalsOf(receiver) {
			for _, s := range item.Signals {
				if s.String() == word {
					o.Signals = append(o.Signals, s)
				}
			}
		}
		if len(o.Signals) == 0 {
			continue
		}
		o.Rate = roomRate * float64(len(o.Signals)) / float64(max(signals, 1))
		o.Progress = func(a ledger.Attempt, res ledger.Result) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.via[itemSource{a.Signal, a.Producer}] = receiver
			if res.State == ledger.Acked {
				m.mu.acked += a.Last - a.First + 1
			}
		}
		l.done.Go(func() { l.sum, l.err = loadgen.Run(ctx, o) })
		m.loads = append(m.loads, l)
	}
	if len(m.loads) == 0 {
		return errors.New("no receiver feeds a pipeline for traces, metrics or logs")
	}
	return nil
}

// runName is the name of a run for the ledger.
func runName(scenario string) string {
	plain := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}
	name := strings.Map(plain, strings.ToLower(scenario))
	return name[:min(len(name), 32)]
}

// wrong puts a fault into force at a backend.
func (m *room) wrong(id string, texts ...string) error {
	if err := m.backends[id].SetFaults(texts...); err != nil {
		return err
	}
	m.say("%s: %s", id, strings.Join(texts, ", "))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endFaultLocked(id)
	m.mu.wrong[id] = &report.Fault{From: m.since(time.Now()), Where: id, Text: strings.Join(texts, ", ")}
	return nil
}

func (m *room) isWrong(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.wrong[id] != nil
}

// hits is how often the faults of a backend that are in force did something.
func (m *room) hits(id string) (sum uint64) {
	for _, f := range m.backends[id].State().Faults {
		sum += f.Hits
	}
	return sum
}

// heal ends all faults, and returns the backends whose fault did nothing.
func (m *room) heal() (idle []string, err error) {
	for _, b := range m.rehearsal.topology.Backends {
		m.mu.Lock()
		f := m.mu.wrong[b.ID]
		m.mu.Unlock()
		if f == nil {
			continue
		}
		if f.Hits = m.hits(b.ID); f.Hits == 0 {
			idle = append(idle, b.ID)
		}
		if err := m.backends[b.ID].SetFaults(); err != nil {
			return nil, err
		}
		m.mu.Lock()
		m.endFaultLocked(b.ID)
		m.mu.Unlock()
		m.say("%s is well again", b.ID)
	}
	return idle, nil
}

func (m *room) endFaultLocked(id string) {
	if f := m.mu.wrong[id]; f != nil {
		f.To = m.since(time.Now())
		m.out.Faults = append(m.out.Faults, *f)
		delete(m.mu.wrong, id)
	}
}

// signal sends the collector a signal.
func (m *room) signal(s syscall.Signal) error { return m.child.cmd.Process.Signal(s) }

// stopLoads ends the load: what was begun gets its answer.
func (m *room) stopLoads() error {
	var errs []error
	for _, l := range m.loads {
		_, err := l.stop()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// close ends everything that still runs. It is idempotent.
func (m *room) close() error {
	if m.child != nil {
		m.child.kill()
	}
	if m.unwatch != nil {
		m.unwatch()
	}
	m.watcher.Wait()
	for _, l := range m.loads {
		_, _ = l.wait() // its context has ended, or it was stopped
	}
	err := m.stopBackends()
	if m.guard != nil {
		_ = m.guard.Close() // it was open, or is closed already
	}
	if m.log != nil {
		_ = m.log.Close() // as above
	}
	return err
}

func (m *room) stopBackends() error {
	var errs []error
	for b := range maps.Values(m.backends) {
		errs = append(errs, b.Stop())
	}
	return errors.Join(errs...)
}
