// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package alerts plays the tests of deploy/prometheus/tests against the rules, with Prometheus' own loader, engine and
// rule manager: each alert fires when it must and not otherwise. A module of its own, since these need more than the
// product and all its tests together. Nothing here opens a socket.
package alerts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

const ruleFile = "../../deploy/prometheus/holdfast.rules.yaml"

// testFile is what promtool reads, without the parts that are not used here.
type testFile struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []testCase     `yaml:"tests"`
}

type testCase struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Looks []look `yaml:"alert_rule_test"`
}

// look is what of one alert must be seen at a time.
type look struct {
	At     model.Duration `yaml:"eval_time"`
	Alert  string         `yaml:"alertname"`
	Expect []struct {
		Labels map[string]string `yaml:"exp_labels"`
	} `yaml:"exp_alerts"`
}

// seen is which alerts fired in some test, and which kept silent although their series were there.
type seen struct{ fired, silent map[string]bool }

func TestEveryAlertFiresWhenItMustAndNotOtherwise(t *testing.T) {
	files, err := filepath.Glob("../../deploy/prometheus/tests/*.test.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("files %v, %v", files, err)
	}
	all := seen{map[string]bool{}, map[string]bool{}}
	for _, file := range files {
		doc := read(t, file)
		for _, c := range doc.Tests {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".test.yaml")+"/"+c.Name, func(t *testing.T) {
				play(t, doc, &c, &all)
			})
		}
	}
	for _, r := range alertingRules(t, ruleFile) {
		if !all.fired[r.Name()] {
			t.Errorf("no test lets %s fire", r.Name())
		}
		if !all.silent[r.Name()] {
			t.Errorf("no test holds %s to silence", r.Name())
		}
	}
}

func read(t *testing.T, file string) *testFile {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	var doc testFile
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for i, f := range doc.RuleFiles {
		doc.RuleFiles[i] = filepath.Join(filepath.Dir(file), f)
	}
	return &doc
}

// groupsOf reads rule files as Prometheus does; suite may be nil where nothing is evaluated.
func groupsOf(t *testing.T, suite *promqltest.LazyLoader, interval time.Duration, files ...string) []*rules.Group {
	t.Helper()
	opts := &rules.ManagerOptions{
		Context: context.Background(), Logger: promslog.NewNopLogger(), Parser: parser.NewParser(parser.Options{}),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	}
	if suite != nil {
		opts.Appendable = suite.Storage()
		opts.QueryFunc = rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage())
	}
	byName, errs := rules.NewManager(opts).LoadGroups(interval, labels.EmptyLabels(), "", nil, false, files...)
	if errs != nil {
		t.Fatal(errs)
	}
	var groups []*rules.Group
	for _, g := range byName {
		for _, r := range alertsOf(g) {
			r.SetRestored(true)
		}
		groups = append(groups, g)
	}
	return groups
}

func alertsOf(g *rules.Group) (out []*rules.AlertingRule) {
	for _, r := range g.Rules() {
		if a, ok := r.(*rules.AlertingRule); ok {
			out = append(out, a)
		}
	}
	return out
}

func alertingRules(t *testing.T, file string) (out []*rules.AlertingRule) {
	t.Helper()
	for _, g := range groupsOf(t, nil, time.Minute, file) {
		out = append(out, alertsOf(g)...)
	}
	return out
}

// play evaluates all rules at every step, as a server would, and compares what fires with what must.
func play(t *testing.T, doc *testFile, c *testCase, all *seen) {
	input := fmt.Sprintf("load %s\n", c.Interval)
	for _, s := range c.InputSeries {
		input += fmt.Sprintf("  %s %s\n", s.Series, s.Values)
	}
	suite, err := promqltest.NewLazyLoader(input, promqltest.LazyLoaderOpts{
		EnableAtModifier: true, EnableNegativeOffset: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer suite.Close()
	groups := groupsOf(t, suite, time.Duration(doc.EvaluationInterval), doc.RuleFiles...)
	end := model.Duration(0)
	for _, l := range c.Looks {
		end = max(end, l.At)
	}
	for at := time.Duration(0); at <= time.Duration(end); at += time.Duration(doc.EvaluationInterval) {
		now := time.Unix(0, 0).UTC().Add(at)
		suite.WithSamplesTill(now, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				g.Eval(suite.Context(), now)
				for _, r := range g.Rules() {
					if r.LastError() != nil {
						t.Fatalf("%s at %s: %v", r.Name(), at, r.LastError())
					}
				}
			}
		})
		for _, l := range c.Looks {
			if time.Duration(l.At) == at {
				compare(t, groups, &l, all)
			}
		}
	}
}

func compare(t *testing.T, groups []*rules.Group, l *look, all *seen) {
	t.Helper()
	var got, want []string
	for _, g := range groups {
		for _, r := range alertsOf(g) {
			if r.Name() != l.Alert {
				continue
			}
			for _, a := range r.ActiveAlerts() {
				if a.State == rules.StateFiring {
					got = append(got, a.Labels.String())
					checkAnnotations(t, r, a)
				}
			}
		}
	}
	for _, e := range l.Expect {
		e.Labels[labels.AlertName] = l.Alert
		want = append(want, labels.FromMap(e.Labels).String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s at %s:\n got %s\nwant %s", l.Alert, l.At, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	if len(want) > 0 {
		all.fired[l.Alert] = true
	} else {
		all.silent[l.Alert] = true
	}
}

var labelUsed = regexp.MustCompile(`\$labels\.([a-z_]+)`)

// checkAnnotations expects every annotation to come out whole: no error in it, no label that the alert does not have.
func checkAnnotations(t *testing.T, r *rules.AlertingRule, a *rules.Alert) {
	t.Helper()
	r.Annotations().Range(func(l labels.Label) {
		for _, m := range labelUsed.FindAllStringSubmatch(l.Value, -1) {
			if a.Labels.Get(m[1]) == "" {
				t.Errorf("%s: the %s names the label %s, which %s has not", r.Name(), l.Name, m[1], a.Labels)
			}
		}
	})
	a.Annotations.Range(func(l labels.Label) {
		if strings.Contains(l.Value, "<error") || strings.Contains(l.Value, "<no value>") || strings.Contains(l.Value, "{{") {
			t.Errorf("%s: the %s reads %q", r.Name(), l.Name, l.Value)
		}
	})
}

// Whoever is woken finds what it is, how bad, what to do next, and the page.
func TestEveryAlertSaysWhatToDoAndLinksToItsPage(t *testing.T) {
	for _, r := range alertingRules(t, ruleFile) {
		if s := r.Labels().Get("severity"); s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Name(), s)
		}
		if r.HoldDuration() < time.Minute {
			t.Errorf("%s: for %s; a single scrape wakes nobody", r.Name(), r.HoldDuration())
		}
		for _, name := range []string{"summary", "description"} {
			if len(r.Annotations().Get(name)) < 30 {
				t.Errorf("%s: %s %q", r.Name(), name, r.Annotations().Get(name))
			}
		}
		const site = "https://github.com/holdfast-telemetry/holdfast/blob/main/"
		page, ok := strings.CutPrefix(r.Annotations().Get("runbook_url"), site)
		if _, err := os.Stat("../../" + page); !ok || !strings.HasPrefix(page, "docs/runbook/") || err != nil {
			t.Errorf("%s: runbook_url %q: %v", r.Name(), r.Annotations().Get("runbook_url"), err)
		}
	}
}
