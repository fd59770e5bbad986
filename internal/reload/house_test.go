// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// house is a process around the machine in virtual time: it does what the machine says, in a world that is scripted,
// and notes every promise the machine breaks.
type house struct {
	t   *testing.T
	now time.Time
	s   reload.State

	configs map[string]*config
	offered string // name of the configuration the sources say
	unread  bool

	job        *job // load or prepare under way
	nextSample time.Time
	loads      map[reload.Generation]*config
	instances  map[reload.Generation]*instance
	running    reload.Generation
	exited     bool // the start gave up
	disk       disk

	loadTakes, prepareTakes time.Duration
	storeFails, goodGone    bool
	slow                    bool // samples when idle, as the driver does

	steps    int
	lastID   uint64
	open     map[uint64]bool
	results  map[uint64]reload.Result
	loadings int // so far
	told     func(reload.Action)
	late     func() bool // a cancelled call had its answer already
	broken   []string    // promises
}

// disk is what outlives the process.
type disk struct {
	good       *reload.Record
	goodOf     *config
	stored     []kept // ascending
	attempt    *reload.Attempt
	deliveries map[string]time.Time
	last       reload.Generation
}

// kept is a configuration that was committed, and stored.
type kept struct {
	reload.Record
	cfg *config
}

// config is one text the sources can have.
type config struct {
	name        string
	secret      string // changes the fingerprint only
	loadErr     string
	prepareErr  string
	senders     []script
	door, queue script
	listener    bool // dead
	memory      bool // too high
	panics      time.Duration
	settings    reload.Settings
}

// script is what a sender, a door or a queue does from its switch on, ten times a second.
type script struct {
	id      string
	changed bool
	does    string
	probe   string // good, bad; "" = cannot be asked
}

type instance struct {
	cfg       *config
	switched  time.Time // zero = never
	committed bool
	retired   bool
}

type job struct {
	at time.Time
	ev reload.Event
	do func()
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newHouse(t *testing.T) *house {
	return &house{t: t, now: start, configs: map[string]*config{}, loads: map[reload.Generation]*config{},
		instances: map[reload.Generation]*instance{}, open: map[uint64]bool{}, results: map[uint64]reload.Result{},
		loadTakes: 200 * time.Millisecond, prepareTakes: 300 * time.Millisecond, told: func(reload.Action) {},
		late: func() bool { return false },
		disk: disk{deliveries: map[string]time.Time{}}}
}

// boot begins a process with what the disk says. What ran before is gone.
func (h *house) boot() {
	h.s, h.job, h.exited, h.running = reload.State{}, nil, false, 0
	h.loads, h.instances = map[reload.Generation]*config{}, map[reload.Generation]*instance{}
	h.open = map[uint64]bool{}
	b := &reload.Boot{Good: h.disk.good, Last: h.disk.last, Deliveries: maps.Clone(h.disk.deliveries)}
	if h.disk.attempt != nil {
		a := *h.disk.attempt
		b.Attempt = &a
	}
	h.nextSample = h.now.Add(time.Second)
	h.tell(reload.Event{Kind: reload.EventBoot, Boot: b})
}

// request asks once; the result comes into results.
func (h *house) request(r reload.Request) uint64 {
	r.Source = "reload"
	return h.ask(reload.Event{Kind: reload.EventRequested, Request: r})
}

// confirm says that the trial went well; the result comes into results.
func (h *house) confirm(expect string) {
	h.ask(reload.Event{Kind: reload.EventConfirmed, Request: reload.Request{Expect: expect}})
}

func (h *house) ask(ev reload.Event) uint64 {
	h.lastID++
	h.open[h.lastID] = true
	ev.Request.ID = h.lastID
	h.tell(ev)
	return h.lastID
}

// at lets time pass until so long after the beginning.
func (h *house) at(until time.Time) {
	for {
		next := until
		if h.job != nil && h.job.at.Before(next) {
			next = h.job.at
		}
		if h.nextSample.Before(next) {
			next = h.nextSample
		}
		if next.After(h.now) {
			h.now = next
		}
		switch {
		case h.job != nil && !h.job.at.After(h.now):
			j := *h.job
			h.job = nil
			if j.do != nil {
				j.do()
			}
			h.tell(j.ev)
		case !h.nextSample.After(h.now):
			h.nextSample = h.now.Add(h.pace())
			if h.running != 0 && !h.exited {
				h.tell(reload.Event{Kind: reload.EventSampled, Sample: h.sample()})
			}
		default:
			if !h.now.Before(until) {
				return
			}
		}
	}
}

// pace is how often what runs is sampled: less where nothing is under way.
func (h *house) pace() time.Duration {
	if h.slow && h.job == nil && len(h.open) == 0 && h.s.Snapshot(h.now).State == "idle" {
		return 10 * time.Second
	}
	return time.Second
}

func (h *house) tell(ev reload.Event) {
	queue := []reload.Event{ev}
	for len(queue) > 0 {
		was := ""
		if h.steps%16 == 15 {
			was = fmt.Sprintf("%+v", h.s)
		}
		next, actions := reload.Step(h.s, queue[0], h.now)
		if h.steps++; h.steps%16 == 0 {
			h.again(queue[0], was, next, actions)
		}
		h.s, queue = next, queue[1:]
		h.look(actions)
		for _, a := range actions {
			h.told(a)
			queue = append(queue, h.act(a)...)
		}
	}
	h.count()
}

// again takes a step once more: the state it began with must be as it was, and lead to the same.
func (h *house) again(ev reload.Event, before string, next reload.State, actions []reload.Action) {
	again, same := reload.Step(h.s, ev, h.now)
	if fmt.Sprint(actions) != fmt.Sprint(same) || fmt.Sprint(next.Snapshot(h.now)) != fmt.Sprint(again.Snapshot(h.now)) {
		h.breaks("Step is not pure: the same state and event led to\n%v\n%v", actions, same)
	}
	if after := fmt.Sprintf("%+v", h.s); after != before {
		h.breaks("Step changed the state it was given:\n%s\n%s", before, after)
	}
}

func (h *house) breaks(format string, args ...any) {
	h.broken = append(h.broken, fmt.Sprintf("%s ", h.stamp())+fmt.Sprintf(format, args...))
}

func (h *house) stamp() string { return fmt.Sprintf("%.3f", h.now.Sub(start).Seconds()) }

// look judges the actions of one step together.
func (h *house) look(actions []reload.Action) {
	switched, stored := false, false
	for _, a := range actions {
		switch a.Kind {
		case reload.ActionSwitch:
			switched = true
		case reload.ActionLoad, reload.ActionPrepare:
			if switched {
				h.breaks("something that can fail follows the switch: %+v", a)
			}
		case reload.ActionStoreGood:
			stored = true
		case reload.ActionRetire:
			in := h.instances[a.Generation]
			if in != nil && in.committed && a.Generation != h.running && !stored &&
				!strings.HasPrefix(h.s.Snapshot(h.now).State, "stop") {
				h.breaks("generation %d, to which a rollback leads, is retired before the next one is stored", a.Generation)
			}
		}
	}
}

// count: at most three are alive.
func (h *house) count() {
	alive := 0
	for _, in := range h.instances {
		if !in.retired {
			alive++
		}
	}
	if h.job != nil && h.job.ev.Kind == reload.EventPrepared {
		alive++
	}
	if alive > 3 {
		h.breaks("%d generations are alive", alive)
	}
}

func (h *house) act(a reload.Action) []reload.Event {
	g := a.Generation
	h.disk.last = max(h.disk.last, g)
	switch a.Kind {
	case reload.ActionLoad:
		h.load(&a)
	case reload.ActionPrepare:
		h.prepare(a)
	case reload.ActionCancel:
		if h.job == nil || h.job.ev.Generation != g {
			h.breaks("cancels %d, which is not under way", g)
			return nil
		}
		if h.late() {
			h.job.at = h.now // it was done already
			return nil
		}
		if h.job.ev.Err == nil {
			h.job.ev.Err = errors.New("cancelled")
			h.job.do = nil
		}
		h.job.at = h.now.Add(10 * time.Millisecond)
	case reload.ActionUnwind, reload.ActionRetire:
		in := h.instances[g]
		switch {
		case in == nil || in.retired:
			h.breaks("generation %d is stopped twice, or never was", g)
			return nil
		case g == h.running:
			h.breaks("generation %d is stopped and runs", g)
		case a.Kind == reload.ActionUnwind && !in.switched.IsZero():
			h.breaks("generation %d ran and is unwound", g)
		}
		in.retired = true
	case reload.ActionSwitch:
		return []reload.Event{h.switchTo(g)}
	case reload.ActionCommit:
		in := h.instances[g]
		if in == nil || in.committed || g != h.running {
			h.breaks("generation %d is committed twice, or does not run", g)
			return nil
		}
		in.committed = true
	case reload.ActionWriteAttempt:
		at := a.Attempt
		h.disk.attempt = &at
	case reload.ActionClearAttempt:
		h.disk.attempt = nil
	case reload.ActionStoreGood:
		return []reload.Event{h.store(a)}
	case reload.ActionAnswer:
		if !h.open[a.Request] {
			h.breaks("request %d has a second result: %+v", a.Request, a.Result)
		}
		delete(h.open, a.Request)
		h.results[a.Request] = a.Result
	case reload.ActionGiveUp:
		h.exited = true
	}
	return nil
}

func (h *house) begin(j job) {
	if h.job != nil {
		h.breaks("two calls of the builder at a time")
	}
	h.job = &j
}

func (h *house) load(a *reload.Action) {
	h.loadings++
	g, stored := a.Generation, a.Stored
	ev := reload.Event{Kind: reload.EventLoaded, Generation: g}
	c := h.configs[h.offered]
	if stored {
		c = h.disk.goodOf
	}
	if a.Back {
		if !h.unread {
			ev.Loaded.Sources = h.offered
		}
		k := h.find(a.Of)
		if k == nil {
			ev.Err = &reload.Refusal{Reason: reload.ReasonNotStored, Err: fmt.Errorf("generation %d is not stored", a.Of)}
			h.begin(job{at: h.now.Add(h.loadTakes), ev: ev})
			return
		}
		c, ev.Loaded.From = h.configs[k.cfg.name], k.Generation
	}
	switch {
	case stored && h.goodGone:
		ev.Err = errors.New("the file of the good one is damaged")
	case !stored && !a.Back && h.unread:
		ev.Err = &reload.Refusal{Reason: reload.ReasonUnread, Err: errors.New("no such file")}
	default:
		l := &ev.Loaded
		l.Hash = c.name
		if c.loadErr != "" {
			ev.Err = errors.New(c.loadErr)
			break
		}
		l.Hash, l.Fingerprint, l.Settings = c.name, c.fingerprint(), c.settings
	}
	h.begin(job{at: h.now.Add(h.loadTakes), ev: ev, do: func() { h.loads[g] = c }})
}

// find is what the store has: a generation, or the newest one of another text than what runs.
func (h *house) find(g reload.Generation) *kept {
	for i := len(h.disk.stored) - 1; i >= 0; i-- {
		k := &h.disk.stored[i]
		if g == 0 && k.Hash != h.instances[h.running].cfg.name || g == k.Generation {
			return k
		}
	}
	return nil
}

func (c *config) fingerprint() string { return c.name + "/" + c.secret }

func (c *config) loaded() reload.Loaded {
	return reload.Loaded{Hash: c.name, Fingerprint: c.fingerprint(), Settings: c.settings}
}

func (h *house) prepare(a reload.Action) {
	of := a.Of
	if of == 0 {
		of = a.Generation
	}
	c := h.loads[of]
	if c == nil {
		h.breaks("generation %d is prepared and was not loaded", of)
		return
	}
	ev := reload.Event{Kind: reload.EventPrepared, Generation: a.Generation}
	if h.running != 0 {
		ev.Before = h.sample()
	}
	takes, g := h.prepareTakes, a.Generation
	if takes > 30*time.Second {
		takes, ev.Err = 30*time.Second, &reload.Refusal{Reason: reload.ReasonTimeout, Err: errors.New("prepare took longer than 30s")}
	}
	if c.prepareErr != "" && ev.Err == nil {
		ev.Err = errors.New(c.prepareErr)
	}
	if a.Preflight && ev.Err == nil {
		for _, s := range c.senders {
			if s.changed && s.probe != "" {
				ev.Probes = append(ev.Probes, reload.Probe{Sender: s.id, Good: s.probe == "good", Text: "connection refused"})
			}
		}
	}
	j := job{at: h.now.Add(takes), ev: ev}
	if ev.Err == nil {
		j.do = func() { h.instances[g] = &instance{cfg: c} }
	}
	h.begin(j)
}

func (h *house) switchTo(g reload.Generation) reload.Event {
	ev := reload.Event{Kind: reload.EventSwitched, Generation: g}
	in := h.instances[g]
	if in == nil || in.retired {
		h.breaks("generation %d runs and was not prepared", g)
		return ev
	}
	if h.running != 0 {
		ev.Before = h.sample()
	}
	h.running = g
	if in.switched.IsZero() {
		in.switched = h.now
	}
	ev.Sample = h.sample()
	return ev
}

func (h *house) store(a reload.Action) reload.Event {
	ev := reload.Event{Kind: reload.EventStored, Generation: a.Generation}
	if h.storeFails {
		ev.Err = errors.New("no space left on device")
		return ev
	}
	in := h.instances[a.Generation]
	if in == nil {
		h.breaks("generation %d becomes good and is not there", a.Generation)
		return ev
	}
	rec := a.Record
	h.disk.good, h.disk.goodOf = &rec, in.cfg
	h.disk.stored = append(h.disk.stored, kept{rec, in.cfg})
	return ev
}

// sample is what the running configuration's script makes of the time since its switch.
func (h *house) sample() *reload.Sample {
	in := h.instances[h.running]
	if in == nil {
		return &reload.Sample{}
	}
	c := in.cfg
	n := uint64(h.now.Sub(in.switched) / (100 * time.Millisecond))
	s := &reload.Sample{Memory: 50, HardLimit: 100}
	for _, x := range c.senders {
		s.Senders = append(s.Senders, x.sender(n, h.now))
		if x.does == "delivers" && n > 0 {
			h.disk.deliveries[x.id] = h.now
		}
	}
	if d := c.door; d.id != "" {
		door := reload.Door{ID: d.id, Changed: d.changed}
		if d.does == "refuses" {
			door.Refused = n
		} else if d.does != "quiet" {
			door.Accepted, door.LastAccepted = n, h.now
		}
		s.Doors = append(s.Doors, door)
	}
	if q := c.queue; q.id != "" {
		queue := reload.Queue{Pipeline: q.id, Changed: q.changed}
		if q.does == "fails" {
			queue.Failed = n
		} else if q.does != "quiet" {
			queue.Appended, queue.LastAppend = n, h.now
		}
		s.Queues = append(s.Queues, queue)
	}
	if c.listener {
		s.Listeners = append(s.Listeners, reload.Listener{Address: "0.0.0.0:4317", FailedChecks: int(n / 10)})
	}
	if c.memory && n > 0 {
		s.Memory = 120
	}
	if c.panics > 0 && h.now.Sub(in.switched) >= c.panics {
		s.Fatal = []string{"index out of range"}
	}
	return s
}

func (x *script) sender(n uint64, now time.Time) reload.Sender {
	host, _, _ := strings.Cut(x.id, "/")
	s := reload.Sender{ID: x.id, Changed: x.changed, Host: host + ":4317", Payloads: n}
	failure := func(count *uint64) {
		*count = n
		if n > 0 {
			s.LastFailure = now
		}
	}
	switch x.does {
	case "delivers":
		s.Delivered = n
		if n > 0 {
			s.LastDelivery = now
		}
	case "misconfigured":
		failure(&s.Misconfigured)
	case "refuses":
		failure(&s.Retry)
	case "ambiguous":
		failure(&s.Ambiguous)
	case "one": // payload, again and again
		failure(&s.Retry)
		s.Payloads = min(n, 1)
	case "strikes": // three, then the breaker is open
		n = min(n, 3)
		failure(&s.Retry)
		s.Payloads = n
	case "throttled":
		s.RetryAfter = n
	case "rejects":
		s.Rejected = n
		if n > 0 {
			s.LastRejected = now
		}
	case "half":
		s.Rejected, s.Delivered = n-n/2, n/2
	case "few": // one in ten
		s.Rejected, s.Delivered = n/10, n-n/10
	case "quiet":
		s.Payloads = 0
	default:
		panic("sender does " + x.does)
	}
	return s
}

// settle plays until nothing is under way.
func (h *house) settle() {
	h.at(h.now.Add(10 * time.Minute))
}

// kill ends the process as kill -9 does; whoever waited hears nothing.
func (h *house) kill() { h.open = map[uint64]bool{} }

// check fails the test for every promise that was broken.
func (h *house) check() {
	h.t.Helper()
	for _, b := range h.broken {
		h.t.Errorf("%s", b)
	}
	h.broken = nil
}
