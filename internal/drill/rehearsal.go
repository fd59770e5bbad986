// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// RehearsalOptions say what to play, and on what.
type RehearsalOptions struct {
	Binary string // the program to start
	// Config is the user's configuration: it is loaded as `run` would.
	Config config.Options
	Sets   []string // of Config, for the child's command line
	// Scenarios are names or patterns (path.Match); none = all that the configuration has.
	Scenarios []string
	Hurry     bool          // delays made for days are shortened
	Each      time.Duration // bounds one scenario, Total all of them
	Total     time.Duration
	Parallel  int    // scenarios at the same time
	Report    string // a directory for the report, and for what a scenario that did not pass left; empty = none
	Keep      bool   // keep the private directory
	Version   string
	// Progress is called with a line for people; several goroutines may do so, but not at once.
	Progress func(string)
}

// Rehearsal is a drill on somebody's own configuration.
type Rehearsal struct {
	o        RehearsalOptions
	topology *topology.Topology
	texts    []string
	scenes   []scene
	mu       sync.Mutex // over Progress
}

// Prepare loads and plans the configuration, and derives the scenarios. It starts nothing.
func Prepare(ctx context.Context, o RehearsalOptions) (*Rehearsal, error) {
	r := &Rehearsal{o: o}
	texts, err := config.Texts(ctx, o.Config)
	if err != nil {
		return nil, err
	}
	o.Config.Texts = texts
	o.Config.Portable = true // keys and certificates may be at home elsewhere: the drill has its own
	for _, t := range texts {
		r.texts = append(r.texts, t.Text)
	}
	cfg, err := config.Load(ctx, o.Config)
	if err != nil {
		return nil, err
	}
	p, findings := plan.Build(cfg, app.ExporterQueue)
	for _, f := range findings {
		if f.Severity == config.Error {
			return nil, fmt.Errorf("%s", f)
		}
	}
	if r.topology, err = topology.Read(cfg, p); err != nil {
		return nil, fmt.Errorf("this configuration cannot be led away from the world:\n%w", err)
	}
	return r, r.choose()
}

// choose takes the scenarios that were asked for.
func (r *Rehearsal) choose() error {
	all := scenes(r.topology)
	if len(r.o.Scenarios) == 0 {
		r.scenes = all
		return nil
	}
	all = append(all, named(r.topology)...)
	r.scenes = all[:1:1] // without a control run nothing is proven
	for _, want := range r.o.Scenarios {
		found := false
		for _, s := range all {
			ok, err := path.Match(want, s.name)
			if err != nil {
				return fmt.Errorf("--scenario %q: %w", want, err)
			}
			// An exporter's name holds a slash, which a pattern's star does not match.
			if prefix, star := strings.CutSuffix(want, "*"); star && strings.HasPrefix(s.name, prefix) || ok {
				found = true
				if !slices.ContainsFunc(r.scenes, func(has scene) bool { return has.name == s.name }) {
					r.scenes = append(r.scenes, s)
				}
			}
		}
		if !found {
			return fmt.Errorf("--scenario %q: this configuration has no such scenario (%s)", want, strings.Join(names(all), ", "))
		}
	}
	return nil
}

func names(all []scene) (out []string) {
	for _, s := range all {
		out = append(out, s.name)
	}
	return out
}

// Scenarios are the names of what Play plays.
func (r *Rehearsal) Scenarios() []string { return names(r.scenes) }

// Play plays everything. An error says that there is no verdict. Nothing is left behind but the report and, if asked for,
// the private directory.
func (r *Rehearsal) Play(ctx context.Context) (*report.Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.o.Total, errTotal)
	defer cancel()
	sweep(os.TempDir())
	dir, err := ownDir(os.TempDir())
	if err != nil {
		return nil, err
	}
	defer func() {
		if !r.o.Keep {
			_ = os.RemoveAll(dir) // the next run tries again
		}
	}()
	if err := r.probe(ctx, dir); err != nil {
		return nil, err
	}
	out := &report.Report{Version: r.o.Version, Began: time.Now().UTC(), Weak: r.topology.Weak, Config: r.o.Config.URIs}
	for _, b := range r.topology.Backends {
		out.Backends = append(out.Backends, b.ID)
	}
	to := r.topology.Redirect(topology.Place{Host: "127.0.0.1", Backends: map[string]string{}, Hurry: r.o.Hurry,
		Cert: func(string) (string, string) { return "", "" }})
	out.Replaced, out.Hurried = to.Replaced, to.Hurried
	r.playAll(ctx, dir, out)
	out.Took = time.Since(out.Began)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errTotal) {
		return nil, err
	}
	out.Judge()
	if r.o.Report != "" {
		err = out.Write(r.o.Report)
	}
	return out, err
}

// errTotal is why a scenario was not played to its end.
var errTotal = errors.New("the time for all scenarios is up")

// playAll plays several scenarios at a time, in their order; the control run goes first and alone.
func (r *Rehearsal) playAll(ctx context.Context, dir string, out *report.Report) {
	slots := make(chan struct{}, max(r.o.Parallel, 1))
	var wg sync.WaitGroup
	for i, s := range r.scenes {
		result := &report.Scenario{Name: s.name, Title: s.title}
		out.Scenarios = append(out.Scenarios, result)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.one(ctx, filepath.Join(dir, fmt.Sprintf("%02d", i)), s, result)
			if s.name == "control" {
				return
			}
		})
		if s.name == "control" {
			if wg.Wait(); result.Outcome != report.Passed {
				for _, s := range r.scenes[i+1:] { // without a control run nothing is proven
					out.Scenarios = append(out.Scenarios, &report.Scenario{Name: s.name, Title: s.title, Outcome: report.Inconclusive,
						Doubts: []string{"the control run did not pass: what a fault does cannot be told from what happens anyway"}})
				}
				return
			}
		}
	}
	wg.Wait()
}

// one plays one scenario to its verdict.
func (r *Rehearsal) one(ctx context.Context, dir string, s scene, out *report.Scenario) {
	out.Began = time.Now()
	if s.why != "" {
		out.Outcome, out.Why = report.NotApplicable, s.why
		return
	}
	r.say(fmt.Sprintf("%-36s begins: %s", s.name, s.title))
	ctx, cancel := context.WithTimeoutCause(ctx, r.o.Each, fmt.Errorf("not played to its end within %s", r.o.Each))
	defer cancel()
	err := r.act(ctx, dir, s, out)
	if err != nil {
		out.Doubts = append(out.Doubts, err.Error())
	}
	switch {
	case len(out.Broken) > 0:
		out.Outcome = report.Failed
	case len(out.Doubts) > 0:
		out.Outcome = report.Inconclusive
	default:
		out.Outcome = report.Passed
	}
	out.Took = time.Since(out.Began)
	if out.Outcome != report.Passed && r.o.Report != "" {
		r.salvage(dir, s.name)
	}
	if !r.o.Keep {
		_ = os.RemoveAll(dir) // the whole directory is removed later
	}
	text := out.Line()
	for _, why := range out.Reasons() {
		text += "\n    " + why
	}
	r.say(text)
}

// act plays a scenario in a room of its own. What it finds is in out.
func (r *Rehearsal) act(ctx context.Context, dir string, s scene, out *report.Scenario) (err error) {
	m, err := r.newRoom(out, dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() { // the load ends with its context
		cancel()
		err = errors.Join(err, m.close())
	}()
	m.poor = s.poor
	if err := m.begin(ctx); err != nil {
		return err
	}
	if err := m.send(ctx); err != nil {
		return err
	}
	if err := m.well(ctx); err != nil {
		return m.take(err)
	}
	if err := m.take(s.play(ctx, m)); err != nil {
		return err
	}
	if _, err := m.heal(); err != nil { // what broke off may have left a fault
		return err
	}
	books, late, err := m.end(ctx)
	if late != nil {
		m.breaks(promiseDrain, nil, "%s", late)
	}
	if err != nil {
		return m.take(err)
	}
	return m.prove(books)
}

// take sorts an error of a play: what goes on to the ledger all the same is nil.
func (m *room) take(err error) error {
	var broken *brokenError
	var idle *idleError
	var late *lateError
	var ended *endedError
	switch {
	case errors.As(err, &broken):
		m.breaks(broken.promise, nil, "%s", broken.text)
		if m.child.running() {
			return nil
		}
		return errors.New("the ledger could not be asked: the process is gone")
	case errors.As(err, &ended):
		m.breaks(promiseRunning, nil, "%s", ended)
		return errors.New("the ledger could not be asked: the process is gone")
	case errors.As(err, &idle):
		m.doubt("%s", idle.text)
		return nil
	case errors.As(err, &late):
		m.doubt("%s", late)
		return nil
	}
	return err
}

// salvage keeps log and notes of a scenario that did not pass.
func (r *Rehearsal) salvage(dir, name string) {
	to := filepath.Join(r.o.Report, "scenarios", sinkName(strings.ReplaceAll(name, ":", "-")))
	_ = os.RemoveAll(to) // of an earlier drill
	for _, part := range []string{"notes"} {
		_ = os.CopyFS(filepath.Join(to, part), os.DirFS(filepath.Join(dir, part))) // the report stands without it
	}
	if text, err := os.ReadFile(filepath.Join(dir, "holdfast.log")); err == nil {
		_ = os.WriteFile(filepath.Join(to, "holdfast.log"), text, 0o600)
	}
}

func (r *Rehearsal) say(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Progress != nil {
		r.o.Progress(line)
	}
}

// probe loads the redirected configuration as the child will: what is wrong with it is found before anything starts.
func (r *Rehearsal) probe(ctx context.Context, dir string) error {
	place := topology.Place{Host: "127.0.0.2", Dir: dir, Backends: map[string]string{}, Hurry: r.o.Hurry,
		CA: filepath.Join(dir, "ca.pem"), Cert: func(string) (string, string) { return "", "" }}
	for i, b := range r.topology.Backends {
		place.Backends[b.ID] = fmt.Sprintf("127.0.0.2:%d", firstBackend+i)
	}
	o := r.o.Config
	o.Texts = nil
	for i, t := range r.texts {
		o.Texts = append(o.Texts, config.Text{URI: o.URIs[i], Text: t})
	}
	o.Sets = append(slices.Clone(o.Sets), r.topology.Redirect(place).Sets...)
	o.Here = false
	cfg, err := config.Load(ctx, o)
	if err != nil {
		return fmt.Errorf("the redirected configuration is not valid: %w", err)
	}
	p, _ := plan.Build(cfg, app.ExporterQueue)
	for i := range p.Listeners {
		if l := &p.Listeners[i]; l.Network != "unix" && !strings.HasPrefix(l.Address, "127.0.0.2:") {
			return fmt.Errorf("%s still listens on %s: it cannot be led away (%s)", l.Component, l.Address, l.Key)
		}
	}
	for _, s := range p.Storages {
		if !strings.HasPrefix(s.Directory, dir) {
			return fmt.Errorf("the storage %s still writes to %s: it cannot be led away", strings.Join(s.IDs, ", "), s.Directory)
		}
	}
	return nil
}
