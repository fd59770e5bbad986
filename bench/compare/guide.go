// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// A system is one of those that are compared.
type system struct {
	name   string
	binary string
	args   []string
	// hardened are changes of the guide's file by somebody who knows what loses data; they stand in place of the
	// scenario's.
	hardened []change
	limit    func(mib int) change // how the limit on storage is said
	version  string
}

// A change is one place of the guide's file that is not played as it stands.
type change struct {
	old, new string
	places   int // how many there are; 0 = one
}

// guideLimitMiB is what the guide allows its storage to hold.
const guideLimitMiB = 4096

// The two spell the limit on storage differently; there is no other difference between their files.
func guideLimit(mib int) change {
	return change{old: "max_file_size_mib: 4096", new: fmt.Sprintf("max_file_size_mib: %d", mib)}
}

func referenceLimit(mib int) change {
	return change{old: "max_file_size_mib: 4096", new: fmt.Sprintf("max_size: %d", mib<<20)}
}

// prepare asks the binaries for their version; systems whose name does not match are left out.
func prepare(ctx context.Context, reference, holdfast string, match *regexp.Regexp) ([]system, error) {
	var out []system
	for _, s := range []system{
		{name: "reference", binary: reference, limit: referenceLimit},
		{name: "reference, hardened", binary: reference, limit: referenceLimit, hardened: hardened},
		{name: "holdfast", binary: holdfast, limit: guideLimit, args: []string{"--implicit-health", "off"}},
	} {
		if !match.MatchString(s.name) {
			continue
		}
		text, err := exec.CommandContext(ctx, s.binary, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --version: %w", s.binary, err)
		}
		_, s.version, _ = strings.Cut(strings.TrimSpace(string(text)), " version ")
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no system is called %s", match)
	}
	return out, nil
}

// shortened are the guide's pauses between attempts, divided by 100, so that what can recover does so while one waits.
var shortened = []change{
	{old: "initial_interval: 5s", new: "initial_interval: 50ms"},
	{old: "max_interval: 60s", new: "max_interval: 600ms"},
}

// impatient is the guide's max_elapsed_time divided by 100, for scenarios that are about it. Elsewhere it stays, so that
// nothing is lost to it that would not be lost to the fault.
var impatient = []change{{old: "max_elapsed_time: 600s", new: "max_elapsed_time: 6s"}}

// places are what has to be elsewhere on this machine: addresses and paths. Where a port has its own metrics the guide
// leaves the default, which two processes cannot share.
func places(in, backend, metrics, storage string) []change {
	host, port, _ := strings.Cut(metrics, ":")
	return []change{
		{old: "endpoint: 0.0.0.0:4317", new: "endpoint: " + in},
		{old: "endpoint: backend.observability.svc:4317", new: "endpoint: " + backend + "\n    tls:\n      insecure: true"},
		{old: "directory: /var/lib/otel/queue", new: "directory: " + storage},
		{old: "service:\n", new: "service:\n  telemetry:\n    metrics:\n      readers:\n        - pull:\n            exporter:\n" +
			"              prometheus:\n                host: " + host + "\n                port: " + port + "\n"},
	}
}

// hardened is what the reference's own documentation offers against some of the losses: batches are made behind the
// queue instead of in front of it, and retrying never ends.
var hardened = []change{
	{old: "[memory_limiter, batch]", new: "[memory_limiter]", places: 3},
	{old: "queue_size: 10000", new: "queue_size: 10000\n      batch:\n        flush_timeout: 5s\n        min_size: 1024"},
	{old: "max_elapsed_time: 600s", new: "max_elapsed_time: 0s"},
}

// adapt makes the changes; each must meet the places it names, so that a guide that reads differently is noticed.
func adapt(guide string, lists ...[]change) (string, error) {
	for _, list := range lists {
		for _, c := range list {
			want := max(1, c.places)
			if n := strings.Count(guide, c.old); n != want {
				return "", fmt.Errorf("the guide's file has %q %d times, not %d", c.old, n, want)
			}
			guide = strings.ReplaceAll(guide, c.old, c.new)
		}
	}
	return guide, nil
}
