// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

var ourName = regexp.MustCompile(`\b(?:holdfast|otelcol)_[a-z_]+[a-z]`)

// seriesOf are the names that the rules and the dashboard use.
func seriesOf(root string) (map[string]bool, error) {
	keep := map[string]bool{}
	for _, file := range []string{"deploy/prometheus/holdfast.rules.yaml", "deploy/grafana/holdfast.json"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		for _, name := range ourName.FindAllString(string(text), -1) {
			keep[name] = true
		}
	}
	return keep, nil
}

// restarts is a container's series in kube-state-metrics.
const restarts = `kube_pod_container_status_restarts_total{job="kube-state-metrics",instance="kube-state-metrics",` +
	`namespace="observability",pod="%s",container="collector"}`

// absent stands for a scrape in which a series was not.
const absent = "-"

// recording is every series at every scrape, and what was done.
type recording struct {
	keep map[string]bool

	mu      sync.Mutex
	series  map[string][]string
	marks   []string
	scrapes int
	more    chan struct{} // closed and replaced with every scrape
}

// wait waits until so many scrapes are made.
func (r *recording) wait(ctx context.Context, scrapes int) error {
	for {
		r.mu.Lock()
		made, more := r.scrapes, r.more
		r.mu.Unlock()
		if made >= scrapes {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mark notes what is done to an instance, at the scrape that comes next.
func (r *recording) mark(c *collector, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, fmt.Sprintf("mark\t%d\t%s\t%s", r.scrapes, c.name, what))
	fmt.Fprintf(os.Stderr, "%4d %s: %s\n", r.scrapes, c.name, what)
}

func (r *recording) add(n int, all []*collector, texts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scrapes = n + 1
	close(r.more)
	r.more = make(chan struct{})
	for i, c := range all {
		up := "1"
		if texts[i] == "" {
			up = "0"
		}
		target := `job="holdfast",instance="` + c.name + `"`
		r.put(n, "up{"+target+"}", up)
		r.put(n, fmt.Sprintf(restarts, c.name), strconv.Itoa(c.restarts()))
		text := strings.ReplaceAll(texts[i], c.dir, "/var/lib/"+c.name) // where it ran is nobody's business
		for line := range strings.Lines(text) {
			name, labels, value, ok := sample(strings.TrimSpace(line))
			if !ok || !r.keep[name] && !r.keep[strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum")] {
				continue
			}
			if labels != "" {
				labels = "," + labels
			}
			r.put(n, name+"{"+target+labels+"}", value)
		}
	}
}

// sample parts a line of the text format, which is the product's own: NAME{LABELS} VALUE.
func sample(line string) (name, labels, value string, ok bool) {
	at := strings.LastIndexByte(line, ' ')
	if at < 0 || strings.HasPrefix(line, "#") {
		return "", "", "", false
	}
	name, value = line[:at], line[at+1:]
	if before, rest, found := strings.Cut(name, "{"); found {
		name, labels = before, strings.TrimSuffix(rest, "}")
	}
	v, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return "", "", "", false
	}
	// Whole numbers as they are, others to a thousandth: clocks run on in the digits below.
	if v != float64(int64(v)) && v < 1e15 {
		value = strconv.FormatFloat(v, 'f', 3, 64)
	} else if v < 1e15 {
		value = strconv.FormatFloat(v, 'f', -1, 64)
	}
	return name, labels, value, true
}

func (r *recording) put(n int, key, value string) {
	values := r.series[key]
	for len(values) < n {
		values = append(values, absent)
	}
	r.series[key] = append(values, value)
}

// write writes one line per series and mark; equal values in a row are written once, with their number.
func (r *recording) write(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "holdfast-outage\t1\t%s\t%d\t%s\n", every, r.scrapes, time.Now().UTC().Format(time.DateOnly))
	for _, m := range r.marks {
		b.WriteString(m + "\n")
	}
	for _, key := range slices.Sorted(maps.Keys(r.series)) {
		fmt.Fprintf(&b, "series\t%s\t", key)
		values := r.series[key]
		for len(values) < r.scrapes {
			values = append(values, absent)
		}
		for i := 0; i < len(values); {
			n := 1
			for i+n < len(values) && values[i+n] == values[i] {
				n++
			}
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(values[i])
			if n > 1 {
				fmt.Fprintf(&b, "*%d", n)
			}
			i += n
		}
		b.WriteByte('\n')
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write([]byte(b.String())); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d series, %d bytes\n", len(r.series), packed.Len())
	return os.WriteFile(path, packed.Bytes(), 0o644)
}
