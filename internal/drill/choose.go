// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
)

// choose takes the scenarios that were asked for.
func (r *Rehearsal) choose() error {
	all := scenario.Derive(r.topology)
	if len(r.o.Scenarios) == 0 {
		r.scenes = all
		return nil
	}
	all = append(all, scenario.Named(r.topology)...)
	r.scenes = all[:1:1] // without a control run nothing is proven
	for _, want := range r.o.Scenarios {
		found, err := r.chosen(all, want)
		if err != nil {
			return err
		}
		for _, s := range found {
			if !slices.Contains(scenario.Names(r.scenes), s.Name) {
				r.scenes = append(r.scenes, s)
			}
		}
	}
	return nil
}

// chosen are the scenarios that a name, a pattern or a file means.
func (r *Rehearsal) chosen(all []scenario.Scenario, want string) (out []scenario.Scenario, err error) {
	for _, s := range all {
		ok, err := path.Match(want, s.Name)
		if err != nil {
			return nil, fmt.Errorf("--scenario %q: %w", want, err)
		}
		// An exporter's name holds a slash, which a pattern's star does not match.
		if prefix, star := strings.CutSuffix(want, "*"); star && strings.HasPrefix(s.Name, prefix) || ok {
			out = append(out, s)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	text, err := os.ReadFile(want)
	switch {
	case err == nil:
		s, err := scenario.Parse(want, string(text), r.topology)
		return []scenario.Scenario{s}, err
	case !errors.Is(err, os.ErrNotExist) || strings.ContainsRune(filepath.Base(want), '.'):
		return nil, fmt.Errorf("--scenario: %w", err)
	}
	hint := ""
	if near := config.Nearest(want, scenario.Names(all)); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	return nil, fmt.Errorf("--scenario %q: this configuration has no such scenario, and there is no such file%s (--list shows all)", want, hint)
}
