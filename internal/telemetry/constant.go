// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"errors"
	"fmt"
	"path"
	"slices"
)

// constantLabels picks the resource attributes that become labels of every series: those that match a pattern of
// `included` and none of `excluded`. A pattern may hold * and ?.
func constantLabels(setting any, resource map[string]string) (map[string]string, error) {
	if setting == nil {
		return nil, nil
	}
	m, ok := setting.(map[string]any)
	if !ok {
		return nil, errors.New("want included and excluded, lists of attribute names")
	}
	included, err := patterns(m["included"])
	if err != nil {
		return nil, fmt.Errorf("included: %w", err)
	}
	excluded, err := patterns(m["excluded"])
	if err != nil {
		return nil, fmt.Errorf("excluded: %w", err)
	}
	out := map[string]string{}
	for name, value := range resource {
		if (len(included) == 0 || matches(included, name)) && !matches(excluded, name) {
			out[name] = value
		}
	}
	return out, nil
}

func patterns(setting any) ([]string, error) {
	if setting == nil {
		return nil, nil
	}
	list, ok := setting.([]any)
	if !ok {
		return nil, errors.New("want a list of attribute names")
	}
	out := make([]string, 0, len(list))
	for _, entry := range list {
		p, ok := entry.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no attribute name", entry)
		}
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name) // checked by patterns
		return ok
	})
}
