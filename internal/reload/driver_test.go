// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// works is a builder of instances made of words: the text of a configuration says how it behaves.
type works struct {
	t  *testing.T
	mu sync.Mutex
	// The rest is guarded by mu.
	text      string
	reads     int
	perRead   string // appended to each reading: it never settles
	running   *machinery
	all       []*machinery
	refreshed int
	lines     []string
}

func (w *works) readings() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads
}

// runs is the text of what runs.
func (w *works) runs() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running.text
}

// machinery is an instance, and its candidate too.
type machinery struct {
	w    *works
	text string
	// guarded by w.mu
	switched, retired time.Time
	committed         bool
}

func (w *works) offer(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = text
}

func (w *works) note(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

func (w *works) Read(context.Context) ([]reload.Text, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	if w.text == "" {
		return nil, errors.New("open config.yaml: no such file")
	}
	return []reload.Text{{URI: uris[0], Text: w.text + strings.Repeat(w.perRead, w.reads)}}, nil
}

func (w *works) Load(ctx context.Context, texts []reload.Text) (reload.Candidate, error) {
	text := texts[0].Text
	switch {
	case strings.Contains(text, "invalid"):
		return nil, errors.New("config.yaml:3: no")
	case strings.Contains(text, "load panics"):
		panic("index out of range")
	}
	return &machinery{w: w, text: text}, nil
}

func (w *works) Prepare(ctx context.Context, c reload.Candidate) (reload.Instance, error) {
	m := c.(*machinery)
	switch {
	case strings.Contains(m.text, "taken"):
		return nil, errors.New("listen tcp 0.0.0.0:4317: address already in use")
	case strings.Contains(m.text, "prepare panics"):
		panic("nil map")
	case strings.Contains(m.text, "slow"):
		<-ctx.Done()
		return nil, ctx.Err()
	case strings.Contains(m.text, "hangs"):
		<-time.After(5 * time.Minute) // whatever ctx says
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	in := &machinery{w: w, text: m.text}
	w.all = append(w.all, in)
	w.note("prepared %s", in.text)
	return in, nil
}

func (m *machinery) Expanded() []byte { return []byte(m.text) }
func (m *machinery) Settings() reload.Settings {
	return reload.Settings{Trial: 30 * time.Second, Preflight: true, Watch: strings.Contains(m.text, "watched")}
}
func (m *machinery) Storages() []string { return []string{} }

func (m *machinery) Preflight(context.Context) []reload.Probe {
	if strings.Contains(m.text, "unreachable") {
		return []reload.Probe{{Sender: "otlp", Text: "connection refused"}}
	}
	return nil
}

func (m *machinery) Switch() {
	if strings.Contains(m.text, "switch panics") && m.switched.IsZero() {
		defer panic("half way")
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.w.running = m
	if m.switched.IsZero() {
		m.switched = time.Now()
	}
	m.w.note("switched to %s", m.text)
}

func (m *machinery) Sample() reload.Sample {
	if strings.Contains(m.text, "sample panics") {
		panic("no sample")
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	s := reload.Sender{ID: "otlp", Changed: strings.Contains(m.text, "changed")}
	if !m.switched.IsZero() {
		quiet := time.Duration(0)
		if strings.Contains(m.text, "late") {
			quiet = 5 * time.Second
		}
		n := uint64(max(time.Since(m.switched)-quiet, 0) / (100 * time.Millisecond))
		s.Payloads = n
		if strings.Contains(m.text, "denied") {
			s.Misconfigured = n
		} else if n > 0 {
			s.Delivered, s.LastDelivery = n, time.Now()
		}
	}
	return reload.Sample{Senders: []reload.Sender{s}}
}

func (m *machinery) Commit() {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.committed = true
}

func (m *machinery) Refresh(context.Context) error {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.w.refreshed++
	return nil
}

func (m *machinery) Retire(context.Context) error {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if !m.retired.IsZero() {
		m.w.t.Errorf("%s is retired twice", m.text)
	}
	if m.w.running == m {
		m.w.t.Errorf("%s is retired and runs", m.text)
	}
	m.retired = time.Now()
	m.w.note("retired %s", m.text)
	return nil
}

// plant is a driver over works, with what it wrote.
type plant struct {
	*works
	*reload.Driver
	metrics *telemetry.Registry
	logs    *observer.ObservedLogs
	disk    vfs.FS
	// settings are those the driver was made from.
	settings reload.DriverSettings
}

func newPlant(t *testing.T, disk vfs.FS, text string) *plant {
	p := &plant{works: &works{t: t, text: text}, metrics: telemetry.NewRegistry(), disk: disk}
	core, logs := observer.New(zap.InfoLevel)
	p.logs = logs
	p.settings = reload.DriverSettings{Builder: p.works, Reader: p.works, Disk: disk, URIs: uris, Version: "1.0.0",
		Telemetry: &telemetry.Telemetry{Logger: zap.New(core), Metrics: p.metrics},
		Places:    func([]string) []reload.Place { return []reload.Place{{Dir: place}} }}
	p.Driver = reload.New(p.settings)
	return p
}

func (p *plant) start() {
	p.t.Helper()
	if err := p.Driver.Start(context.Background()); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends the driver, and then what runs, as its owner does.
func (p *plant) stop() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if err := p.Driver.Stop(ctx); err != nil {
		p.t.Error(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.all {
		if m != p.running && m.retired.IsZero() {
			p.t.Errorf("%q is left behind", m.text)
		}
	}
}

func (p *plant) value(name string, labels ...string) float64 {
	p.t.Helper()
	for _, s := range p.metrics.Snapshot() {
		if s.Name != name {
			continue
		}
		fits := true
		for i := 0; i < len(labels); i += 2 {
			at := slices.Index(s.Labels, labels[i])
			fits = fits && at >= 0 && s.Labels[at+1] == labels[i+1]
		}
		if fits {
			return s.Value
		}
	}
	p.t.Errorf("there is no %s%v", name, labels)
	return -1
}

func (p *plant) says(line string) int { return p.logs.FilterMessage(line).Len() }

func request(p *plant) reload.Result {
	return p.Request(context.Background(), reload.Ask{Source: "reload"})
}

func TestDriverTakesAChangeFromRequestToCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		p := newPlant(t, disk, "one")
		p.start()
		time.Sleep(time.Minute)
		p.offer("two changed")
		began := time.Now()
		if r := request(p); r.Outcome != reload.Committed || r.Evidence != reload.EvidenceDelivered || r.Generation != 2 {
			t.Errorf("result %+v", r)
		}
		if took := time.Since(began); took < 15*time.Second || took > 20*time.Second {
			t.Errorf("the trial took %s", took)
		}
		if r := request(p); r.Outcome != reload.Unchanged {
			t.Errorf("result of the same again %+v", r)
		}
		synctest.Wait()
		s := p.Snapshot()
		if s.State != "idle" || s.Drift || s.Running.Generation != 2 || s.Good.Generation != 2 || s.Store == "" ||
			len(s.Attempts) != 3 || s.Attempts[0].State != reload.Unchanged || s.Attempts[1].State != reload.Committed {
			t.Errorf("snapshot %+v", s)
		}
		for _, line := range []string{"Config reload requested", "Config switched, trial begins", "Config committed",
			"Config unchanged"} {
			if p.says(line) == 0 {
				t.Errorf("the log has no line %q", line)
			}
		}
		if n := p.value("holdfast_config_generation", "which", "running"); n != 2 {
			t.Errorf("running generation %v", n)
		}
		if n := p.value("holdfast_config_reloads_total", "result", "committed", "reason", "none"); n != 2 {
			t.Errorf("%v commits counted, want the start's and this one", n)
		}
		if n := p.value("holdfast_config_info", "generation", "2", "sha256", s.Running.Hash); n != 1 {
			t.Errorf("info is %v", n)
		}
		p.stop()
		if p.refreshed != 1 {
			t.Errorf("files read anew %d times", p.refreshed)
		}

		// The next process starts what is good without a trial, with its number.
		p = newPlant(t, disk, "two changed")
		p.start()
		if s := p.Snapshot(); s.State != "idle" || s.Running.Generation != 2 || len(s.Attempts) != 3 {
			t.Errorf("after a restart %+v", s)
		}
		p.stop()
	})
}

func TestDriverTurnsEveryTroubleOfABuilderIntoARejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, vfs.NewMem(0), "one")
		p.start()
		time.Sleep(time.Minute)
		for text, want := range map[string]reload.Reason{
			"invalid": reload.ReasonInvalid, "load panics": reload.ReasonPanic, "taken": reload.ReasonPrepare,
			"prepare panics": reload.ReasonPanic, "slow": reload.ReasonTimeout, "hangs": reload.ReasonTimeout,
			"unreachable": reload.ReasonPreflight, "": reload.ReasonUnread, "  \n": reload.ReasonEmpty,
			"\xff\xfe": reload.ReasonInvalid, strings.Repeat("x", 9<<20): reload.ReasonTooLarge,
		} {
			p.offer(text)
			if r := request(p); r.Outcome != reload.Rejected || r.Reason != want {
				t.Errorf("%.20q: %s %s %s, want rejected %s", text, r.Outcome, r.Reason, r.Text, want)
			}
			if s := p.Snapshot(); !s.Drift || s.Running.Generation != 1 {
				t.Errorf("%.20q: %+v", text, s)
			}
			if n := p.value("holdfast_config_reloads_total", "result", "rejected", "reason", string(want)); n < 1 {
				t.Errorf("%.20q: not counted", text)
			}
		}
		p.mu.Lock()
		p.text, p.perRead = "one", " "
		p.mu.Unlock()
		if r := request(p); r.Reason != reload.ReasonUnstable {
			t.Errorf("a text that never settles: %+v", r)
		}
		p.stop()
		time.Sleep(10 * time.Minute) // what hung comes back, and is unwound
	})
}

func TestDriverRollsBackWhatBreaksItsPromises(t *testing.T) {
	for text, want := range map[string]reload.Reason{
		"changed denied": reload.ReasonMisconfigured, "switch panics": reload.ReasonFatal, "sample panics": reload.ReasonFatal,
	} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlant(t, vfs.NewMem(0), "one")
				p.start()
				time.Sleep(time.Minute)
				p.offer(text)
				if r := request(p); r.Outcome != reload.RolledBack || r.Reason != want {
					t.Errorf("result %+v, want %s", r, want)
				}
				p.mu.Lock()
				built := len(p.all)
				p.mu.Unlock()
				if p.runs() != "one" || built != 2 {
					t.Errorf("%q runs, %d were built", p.runs(), built)
				}
				synctest.Wait()
				if s := p.Snapshot(); len(s.Held) != 1 || !s.Drift {
					t.Errorf("%+v", s)
				}
				p.stop()
			})
		})
	}
}

func TestDriverAnswersAThousandRequestsWithFewLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, vfs.NewMem(0), "one")
		for range 10 { // while it starts they are one
			p.Notify("SIGHUP")
		}
		p.start()
		time.Sleep(time.Minute)
		before := p.readings()
		p.offer("two")
		var wg sync.WaitGroup
		results := make(chan reload.Outcome, 1000)
		for range 1000 {
			wg.Go(func() { results <- request(p).Outcome })
		}
		wg.Wait()
		close(results)
		sums := map[reload.Outcome]int{}
		for o := range results {
			sums[o]++
		}
		if sums[reload.Committed] != 1 || sums[reload.Superseded] != 999 {
			t.Errorf("results %v", sums)
		}
		if n := p.readings() - before; n > 8 {
			t.Errorf("%d readings", n)
		}
		if n := p.says("Config unchanged"); n != 1 {
			t.Errorf("%d requests were served after the start, want the signals as one", n)
		}
		p.stop()
	})
}

func TestDriverStopsAtAnyMomentAndAnswersEverybody(t *testing.T) {
	for _, after := range []time.Duration{0, 100 * time.Millisecond, 250 * time.Millisecond, 3 * time.Second, 40 * time.Second} {
		for _, text := range []string{"two changed", "slow", "hangs", "changed denied", "invalid"} {
			t.Run(fmt.Sprint(text, " ", after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPlant(t, vfs.NewMem(0), "one")
					p.start()
					time.Sleep(time.Minute)
					p.offer(text)
					result := make(chan reload.Result, 1)
					go func() { result <- request(p) }()
					time.Sleep(after)
					p.stop()
					if r := <-result; r.Outcome == "" {
						t.Errorf("no result: %+v", r)
					}
					if r := request(p); r.Outcome != reload.Rejected || r.Reason != reload.ReasonStopping {
						t.Errorf("a request after the stop: %+v", r)
					}
					time.Sleep(10 * time.Minute) // what hung comes back, and is unwound
					p.mu.Lock()
					defer p.mu.Unlock()
					for _, m := range p.all {
						if m != p.running && m.retired.IsZero() {
							t.Errorf("%q is left behind", m.text)
						}
					}
				})
			})
		}
	}
}

func TestDriverStartsTheGoodOneWhereTheOfferedOneIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		p := newPlant(t, disk, "invalid")
		if err := p.Driver.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "config.yaml:3: no") {
			t.Errorf("a start without a good one: %v", err)
		}
		p = newPlant(t, disk, "one")
		p.start()
		time.Sleep(time.Minute)
		p.stop()
		for _, text := range []string{"invalid", "", "taken", "prepare panics", "load panics"} {
			p = newPlant(t, disk, text)
			p.start()
			s := p.Snapshot()
			if s.State != "idle" || !s.Drift || s.Running.Generation != s.Good.Generation || p.runs() != "one" {
				t.Errorf("%q offered: %+v", text, s)
			}
			if p.value("holdfast_config_drift") != 1 {
				t.Errorf("%q offered: no drift", text)
			}
			p.stop()
		}
	})
}

func TestDriverWorksWithoutAStoreAndBesideAStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sick := vfs.NewFaulty(vfs.NewMem(0), vfs.Rule{Call: "mkdir *", Err: errors.New("read-only file system")})
		p := newPlant(t, sick, "one")
		p.start()
		time.Sleep(time.Minute)
		p.offer("two")
		if r := request(p); r.Outcome != reload.Committed {
			t.Errorf("without a store: %+v", r)
		}
		if r := confirmable(p, "three", time.Minute); !strings.Contains(r.Text, "there is no state directory") {
			t.Errorf("without a store: %+v", r)
		}
		if r := back(p, 0); r.Outcome != reload.Committed || p.runs() != "two" {
			t.Errorf("without a store: %+v", r)
		}
		if r := back(p, 0); r.Reason != reload.ReasonNotStored {
			t.Errorf("without a store: %+v", r)
		}
		if s := p.Snapshot(); !s.Unsaved || s.Store != "" || s.StoreErr == "" || p.value("holdfast_config_store_errors_total") == 0 {
			t.Errorf("without a store: %+v", s)
		}
		p.stop()

		disk := vfs.NewFaulty(vfs.NewMem(0))
		p = newPlant(t, disk, "one")
		p.start()
		time.Sleep(time.Minute)
		hold := vfs.NewHold()
		disk.Plan(vfs.Rule{Hold: hold})
		p.offer("changed denied")
		began := time.Now()
		if r := request(p); r.Outcome != reload.RolledBack {
			t.Errorf("beside a stalled disk: %+v", r)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the stalled disk held up the rollback for %s", took)
		}
		hold.Release()
		time.Sleep(10 * time.Second) // the hold of the text is a minute
		p.offer("two")
		if r := request(p); r.Outcome != reload.Committed {
			t.Errorf("after the disk was well again: %+v", r)
		}
		time.Sleep(time.Minute)
		if s := p.Snapshot(); s.Unsaved || s.Good.Generation != s.Running.Generation {
			t.Errorf("after the disk was well again: %+v", s)
		}
		p.stop()
	})
}

func TestRequestWaitsForTheTextItExpects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, vfs.NewMem(0), "one")
		p.start()
		time.Sleep(time.Minute)
		hash := reload.HashOf([]reload.Text{{URI: uris[0], Text: "two"}})
		go func() {
			time.Sleep(40 * time.Second)
			p.offer("two")
		}()
		r := p.Request(context.Background(), reload.Ask{Source: "reload", Expect: hash})
		if r.Outcome != reload.Committed || r.Hash != hash {
			t.Errorf("result %+v", r)
		}
		r = p.Request(context.Background(), reload.Ask{Source: "reload", Expect: "other"})
		if r.Outcome != reload.Rejected || r.Reason != reload.ReasonExpected || r.Hash != hash {
			t.Errorf("a text that never comes: %+v", r)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.offer("three")
		if r := p.Request(ctx, reload.Ask{Source: "reload"}); r.Outcome != "" || !strings.Contains(r.Text, "trial") {
			t.Errorf("a request that did not wait for the end: %+v", r)
		}
		p.stop()
	})
}

func TestDriverRemembersDeliveriesOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		p := newPlant(t, disk, "one")
		p.start()
		time.Sleep(2 * time.Minute)
		p.stop()
		// Unreachable where the one before delivered until a moment ago: the good one starts.
		p = newPlant(t, disk, "unreachable changed denied")
		p.start()
		if s := p.Snapshot(); !s.Drift || p.runs() != "one" || s.Attempts[0].Reason != reload.ReasonPreflight {
			t.Errorf("%+v", s)
		}
		p.stop()
		time.Sleep(time.Hour) // then nobody knows any more
		p = newPlant(t, disk, "unreachable changed denied")
		p.start()
		if s := p.Snapshot(); p.runs() != "unreachable changed denied" {
			t.Errorf("%+v", s)
		}
		p.stop()
	})
}
