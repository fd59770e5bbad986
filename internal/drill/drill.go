// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package drill plays outages against a user's own configuration, and says which promises it keeps.
//
// It stands outside the product. It loads and plans the configuration as `run` does, chooses what is played
// (internal/drill/scenario), gives each scenario a room of its own in a private directory (internal/drill/stage), and hands
// over a report (internal/drill/report). It promises to be bounded in time, to touch nothing outside its directory and the
// loopback, and to leave nothing behind, also after kill -9: the next drill removes what that one could not.
// Nothing on the data path knows it. internal/drill/demo is one outage of the same kind, before an audience.
package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
	"github.com/holdfast-telemetry/holdfast/internal/drill/stage"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// Options say what to play, and on what.
type Options struct {
	Binary string // the program to start
	// Config is the user's configuration: it is loaded as `run` would.
	Config config.Options
	Sets   []string // of Config, for the child's command line
	// Scenarios are names or patterns (path.Match), or files; none = all that the configuration has.
	Scenarios []string
	Headers   [][2]string   // that those who send add
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
	o        Options
	topology *topology.Topology
	texts    []string
	scenes   []scenario.Scenario
	mu       sync.Mutex // over Progress
}

// Prepare loads and plans the configuration, and derives the scenarios. It starts nothing.
func Prepare(ctx context.Context, o Options) (*Rehearsal, error) {
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
	p, findings := plan.Build(cfg, components.ExporterQueue)
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

// Scenarios are the names of what Play plays.
func (r *Rehearsal) Scenarios() []string { return scenario.Names(r.scenes) }

// Text is the scenarios as files that --scenario takes.
func (r *Rehearsal) Text() string {
	var b strings.Builder
	for i := range r.scenes {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# scenario %s\n%s", r.scenes[i].Name, r.scenes[i].Text())
	}
	return b.String()
}

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
		result := &report.Scenario{Name: s.Name, Title: s.Title}
		out.Scenarios = append(out.Scenarios, result)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.one(ctx, filepath.Join(dir, fmt.Sprintf("%02d", i)), s, result)
		})
		if s.Name == "control" {
			if wg.Wait(); result.Outcome != report.Passed {
				for _, s := range r.scenes[i+1:] { // without a control run nothing is proven
					out.Scenarios = append(out.Scenarios, &report.Scenario{Name: s.Name, Title: s.Title, Outcome: report.Inconclusive,
						Doubts: []string{"the control run did not pass: what a fault does cannot be told from what happens anyway"}})
				}
				return
			}
		}
	}
	wg.Wait()
}

// one plays one scenario to its verdict.
func (r *Rehearsal) one(ctx context.Context, dir string, s scenario.Scenario, out *report.Scenario) {
	out.Began = time.Now()
	if s.Why != "" {
		out.Outcome, out.Why = report.NotApplicable, s.Why
		return
	}
	r.say(fmt.Sprintf("%-36s begins: %s", s.Name, s.Title))
	ctx, cancel := context.WithTimeoutCause(ctx, r.o.Each, fmt.Errorf("not played to its end within %s", r.o.Each))
	defer cancel()
	play := stage.Play{Binary: r.o.Binary, Texts: r.texts, Sets: r.o.Sets, Headers: r.o.Headers, Hurry: r.o.Hurry, Topology: r.topology}
	err := play.Run(ctx, &s, dir, out)
	if err != nil {
		out.Doubts = append(out.Doubts, err.Error())
	}
	switch {
	case len(out.Broken) > 0:
		out.Outcome = report.Failed
	case len(out.Doubts) > 0:
		out.Outcome = report.Inconclusive
	case out.Why != "":
		out.Outcome = report.NotApplicable
	default:
		out.Outcome = report.Passed
	}
	out.Took = time.Since(out.Began)
	if (out.Outcome == report.Failed || out.Outcome == report.Inconclusive) && r.o.Report != "" {
		r.salvage(dir, s.Name)
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

// salvage keeps log and notes of a scenario that did not pass.
func (r *Rehearsal) salvage(dir, name string) {
	to := filepath.Join(r.o.Report, "scenarios", verdict.SinkName(strings.ReplaceAll(name, ":", "-")))
	_ = os.RemoveAll(to)                                                             // of an earlier drill
	_ = os.CopyFS(filepath.Join(to, "notes"), os.DirFS(filepath.Join(dir, "notes"))) // the report stands without it
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
