// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Snapshot is what status shows: block `config`.
type Snapshot struct {
	State     string        `json:"state"` // idle, loading, preparing, switching, trial, trial+loading, rolling back, …
	Running   Shown         `json:"running"`
	Good      Shown         `json:"good"`
	Offered   Shown         `json:"offered"`
	Drift     bool          `json:"drift"` // what runs is not what is offered: degraded, never unhealthy
	TrialLeft time.Duration `json:"trial_left,omitempty"`
	// ConfirmUntil is when the trial is undone unless somebody confirms it; zero = nobody has to.
	ConfirmUntil time.Time `json:"confirm_until,omitzero"`
	Clocks       []Clock   `json:"clocks,omitempty"`
	Attempts     []Entry   `json:"attempts"` // the last ten, newest first
	Held         []Held    `json:"held,omitempty"`
	Store        string    `json:"store"` // "" = there is none
	StoreErr     string    `json:"store_error,omitempty"`
	Unsaved      bool      `json:"unsaved,omitempty"` // what is committed is not on disk yet
	Alarm        string    `json:"alarm,omitempty"`   // its trial failed, and there is no way back
}

// Shown is one generation for people.
type Shown struct {
	Generation Generation `json:"generation"` // 0 = none
	Hash       string     `json:"sha256,omitempty"`
	Source     string     `json:"source,omitempty"`
	At         time.Time  `json:"at"` // committed, or else offered
	Evidence   Evidence   `json:"evidence,omitempty"`
}

// Held is a hash that is not tried again for now.
type Held struct {
	Hash  string    `json:"sha256"`
	Times int       `json:"times"`
	Until time.Time `json:"until"` // zero: until another text is offered
	// Unconfirmed says that it is held because nobody confirmed it.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
}

// shownAttempts is how many attempts a Snapshot has.
const shownAttempts = 10

// Snapshot is a copy of what there is to see, at most idleEvery old but for changes, which show at once. It never
// blocks.
func (d *Driver) Snapshot() Snapshot {
	d.shown.Lock()
	defer d.shown.Unlock()
	s := d.shown.Snapshot
	if s.State == "" {
		s.State = "starting"
	}
	s.Clocks, s.Attempts, s.Held = slices.Clone(s.Clocks), slices.Clone(s.Attempts), slices.Clone(s.Held)
	return s
}

// show renews the Snapshot and the gauges.
func (d *Driver) show() {
	s := d.state.Snapshot(time.Now())
	for _, e := range slices.Backward(d.history) {
		if len(s.Attempts) == shownAttempts {
			break
		}
		s.Attempts = append(s.Attempts, e)
	}
	markStored(s.Attempts, d.stored)
	if d.store != nil {
		s.Store = d.store.Dir()
	}
	if d.storeErr != nil {
		s.StoreErr = d.storeErr.Error()
	}
	d.shown.Lock()
	d.shown.Snapshot = s
	d.shown.Unlock()
	d.figures.show(&s)
}

// Snapshot is what the machine knows of it.
func (s *State) Snapshot(now time.Time) Snapshot {
	to := Snapshot{State: s.words(), Good: shown(&s.good), Offered: shown(&s.offered), Drift: s.drift(),
		Unsaved: s.unsaved != 0, Alarm: s.alarm}
	if s.run != nil {
		to.Running = shown(&s.run.Record)
	}
	if s.phase == Trial {
		to.TrialLeft, to.Clocks = s.trial.left(now), s.trial.clocks
		if !s.until.IsZero() {
			to.TrialLeft, to.ConfirmUntil = max(0, s.until.Sub(now)), s.until
		}
	}
	if s.held.Hash != "" && (s.held.Forever || now.Before(s.held.Until)) {
		h := Held{Hash: s.held.Hash, Times: s.held.Times, Until: s.held.Until, Unconfirmed: s.held.Unconfirmed}
		if s.held.Forever {
			h.Until = time.Time{}
		}
		to.Held = []Held{h}
	}
	return to
}

func shown(r *Record) Shown {
	return Shown{Generation: r.Generation, Hash: r.Hash, Source: r.Source, At: r.At, Evidence: r.Evidence}
}

// drift says that what runs is not what is offered.
func (s *State) drift() bool {
	return s.run != nil && (s.refused || !s.run.same(s.offered.Hash, s.offered.Fingerprint))
}

var (
	phaseWords = [...]string{"starting", "idle", "switching", "trial", "rolling back", "stopping", "stopped"}
	stageWords = [...]string{"", "loading", "preparing", "cancelling"}
)

// words is the state in the words of the table in section 8.
func (s *State) words() string {
	phase, stage := phaseWords[s.phase], stageWords[s.work.stage]
	switch {
	case stage == "":
		return phase
	case s.phase == Idle:
		return stage
	}
	return phase + "+" + stage
}

// tell writes a transition to the log, the figures and, if it is an end, the history.
func (d *Driver) tell(a *Action) {
	rec, res := &a.Record, &a.Result
	level, line := zapcore.InfoLevel, ""
	switch res.Outcome {
	case Received:
		line = "Config reload requested"
	case Unchanged:
		line = "Config unchanged"
	case Rejected:
		level, line = zapcore.ErrorLevel, "Config rejected"
	case OnTrial:
		line = "Config switched, trial begins"
	case Unconfirmed:
		level, line = zapcore.WarnLevel, "Config waits for a confirmation"
	case Committed:
		line = "Config committed"
	case RolledBack:
		level, line = zapcore.ErrorLevel, "Config rolled back"
	case Superseded:
		line = "Config superseded"
	case Stuck:
		level, line = zapcore.ErrorLevel, "Config trial failed and there is no way back"
	}
	fields := []zap.Field{zap.Uint64("generation", uint64(rec.Generation)), zap.String("sha256", rec.Hash),
		zap.String("source", rec.Source), zap.String("reason", string(res.Reason))}
	if res.Evidence != "" {
		fields = append(fields, zap.String("evidence", string(res.Evidence)))
	}
	if !res.Until.IsZero() {
		fields = append(fields, zap.Time("confirm_until", res.Until))
	}
	switch {
	case res.Text == "":
	case res.Outcome == Committed || res.Outcome == OnTrial || res.Outcome == Unconfirmed: // no trouble
		fields = append(fields, zap.String("detail", res.Text))
	default:
		fields = append(fields, telemetry.Foreign("error", res.Text))
	}
	if ce := d.log.Check(level, line); ce != nil {
		ce.Write(fields...)
	}
	if res.Outcome == Received || res.Outcome == OnTrial || res.Outcome == Unconfirmed {
		return
	}
	d.figures.ended(res)
	d.remembered(Entry{Generation: rec.Generation, Time: time.Now(), Hash: rec.Hash, Source: rec.Source, From: rec.From,
		State: res.Outcome, Reason: res.Reason, Text: res.Text, Evidence: res.Evidence})
}

// figures are the metrics of section 12; every series exists from the start.
type figures struct {
	metrics     *telemetry.Registry
	generations map[string]*telemetry.Gauge
	drift       *telemetry.Gauge
	remaining   *telemetry.Gauge
	success     *telemetry.Gauge
	switching   *telemetry.Histogram
	storeErrors *telemetry.Counter
	info        string
}

const (
	reloadsName = "holdfast_config_reloads_total"
	reloadsHelp = "Configurations offered, by what became of them."
	infoName    = "holdfast_config_info"
)

func newFigures(m *telemetry.Registry) *figures {
	f := &figures{metrics: m, generations: map[string]*telemetry.Gauge{}}
	for _, which := range []string{"running", "good", "offered"} {
		f.generations[which] = m.Gauge("holdfast_config_generation", "Number of a configuration; 0 = none.", "which", which)
	}
	f.drift = m.Gauge("holdfast_config_drift", "1 while what runs is not what the sources say.")
	f.remaining = m.Gauge("holdfast_config_trial_remaining_seconds", "How long the trial lasts if nothing happens; 0 = none.")
	f.success = m.Gauge("holdfast_config_last_success_timestamp_seconds",
		"When what is offered was last found running or committed; 0 = never.")
	f.switching = m.Histogram("holdfast_config_switch_seconds", "How long switches took.",
		[]float64{.001, .005, .01, .05, .1, .5, 1, 5})
	f.storeErrors = m.Counter("holdfast_config_store_errors_total", "Failures and damage of the store of configurations.")
	for result, reasons := range map[Outcome][]Reason{Committed: {NoReason}, Unchanged: {NoReason},
		Rejected: rejectedReasons, RolledBack: rolledBackReasons, Superseded: supersededReasons, Stuck: rolledBackReasons} {
		for _, reason := range reasons {
			m.Counter(reloadsName, reloadsHelp, "result", string(result), "reason", string(reason))
		}
	}
	return f
}

func (f *figures) ended(res *Result) {
	f.metrics.Counter(reloadsName, reloadsHelp, "result", string(res.Outcome), "reason", string(res.Reason)).Inc()
	if res.Outcome == Committed || res.Outcome == Unchanged {
		f.success.Set(time.Now().Unix())
	}
}

func (f *figures) switched(took time.Duration) { f.switching.Observe(took.Seconds()) }

func (f *figures) show(s *Snapshot) {
	f.generations["running"].Set(int64(s.Running.Generation))
	f.generations["good"].Set(int64(s.Good.Generation))
	f.generations["offered"].Set(int64(s.Offered.Generation))
	f.drift.Set(0)
	if s.Drift {
		f.drift.Set(1)
	}
	f.remaining.Set(int64(s.TrialLeft / time.Second))
	labels := []string{"generation", fmt.Sprint(s.Running.Generation), "sha256", s.Running.Hash, "source",
		s.Running.Source, "evidence", string(s.Running.Evidence)}
	if text := fmt.Sprint(labels); text != f.info && s.Running.Generation != 0 {
		f.metrics.Forget(func(name string, _ []string) bool { return name == infoName })
		f.metrics.Gauge(infoName, "1 for the configuration that runs.", labels...).Set(1)
		f.info = text
	}
}
