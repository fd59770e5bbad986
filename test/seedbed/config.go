// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package seedbed

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Seed is one of the two documents.
type Seed string

// The seeds.
const (
	A Seed = "A" // a gateway with primary, secondary and an emergency file
	B Seed = "B" // two exporters and a connector for each signal
)

// Times are the delays a seed's text sets, for the bounds of what can be expected of it.
type Times struct {
	Timeout, SecondTimeout time.Duration // of an export
	RetryInterval, Gap     time.Duration // between probes
	Linger                 time.Duration // of a batch that does not get full
	Consumers              int           // at the first level
}

// Times returns a seed's delays, as failover, section 4.2 reads them.
func (s Seed) Times() Times {
	if s == A {
		return Times{10 * time.Second, 30 * time.Second, 15 * time.Second, 7500 * time.Millisecond, 5 * time.Second, 10}
	}
	return Times{5 * time.Second, 5 * time.Second, 30 * time.Second, 10 * time.Second, 200 * time.Millisecond, 10}
}

const (
	gateway   = "000-05-multi-backend-failover.yaml"
	connector = "000-06-multi-backend-failover.yaml"
	exporters = "001-01-configuring-dual-exporters.yaml"
	dual      = "001-02-using-the-failover-connector.yaml"
)

// moreA and moreB let the signals flow that a seed does not name, through its own connector.
const (
	moreA = `
service:
  pipelines:
    metrics/input: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [failover/traces]}
    logs/input: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [failover/traces]}
`
	moreB = `
service:
  pipelines:
    logs/ingress: {receivers: [otlp], processors: [batch], exporters: [failover/traces]}
`
)

// configure writes what has to be written and returns the command line.
func (b *Bed) configure() ([]string, error) {
	files, sets, more := []string{b.seed(exporters), b.seed(dual)}, []string{
		"extensions::file_storage/primary_queue::directory=" + b.Queue(),
	}, moreB
	if b.o.Seed == A {
		path, err := b.gateway()
		if err != nil {
			return nil, err
		}
		files, more = []string{path}, moreA
		sets = []string{
			"extensions::file_storage::directory=" + b.Queue(),
			"exporters::file/emergency::path=" + b.emergency(),
		}
	}
	for i, text := range []string{more, b.o.More} {
		if text == "" {
			continue
		}
		path := filepath.Join(b.o.Dir, fmt.Sprintf("more-%d.yaml", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	args := []string{"--implicit-health=off"}
	for _, f := range files {
		args = append(args, "--config", f)
	}
	for _, set := range append(append(sets,
		"receivers::otlp::protocols::grpc::endpoint="+b.door(),
		"exporters::otlp/primary::endpoint="+b.Primary.GRPCAddr(),
		"exporters::otlp/secondary::endpoint="+b.Secondary.GRPCAddr(),
		"service::telemetry::metrics::address="+b.metrics(),
	), b.o.Sets...) {
		args = append(args, "--set", set)
	}
	return args, nil
}

func (b *Bed) seed(name string) string {
	return filepath.Join(b.o.Root, "test", "compat", "seeds", name)
}

// gateway is seed A's file with the connector's service in place of its own, as the connector's text says it is used.
func (b *Bed) gateway() (string, error) {
	whole, err := os.ReadFile(b.seed(gateway))
	if err != nil {
		return "", err
	}
	part, err := os.ReadFile(b.seed(connector))
	if err != nil {
		return "", err
	}
	components, _, found := strings.Cut(string(whole), "\nservice:")
	if !found {
		return "", fmt.Errorf("%s has no service", gateway)
	}
	path := filepath.Join(b.o.Dir, "gateway.yaml")
	return path, os.WriteFile(path, []byte(components+"\n"+string(part)), 0o600)
}
