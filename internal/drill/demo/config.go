// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"time"
)

// pace is how long the steps of an outage take, and the collector's own times to go with them.
type pace struct {
	length                               time.Duration // of the load
	well, primary, killed, both, healing time.Duration // the steps

	retry, gap, allDown time.Duration // between probes of a level that is down; of a route; with all levels down
	ramp, after         time.Duration // of a return; before the emergency file is repaid
}

// paceOf divides a load's length.
func paceOf(length time.Duration) pace {
	part := func(percent time.Duration) time.Duration { return length * percent / 100 }
	p := pace{length: length, well: part(15), primary: part(20), killed: part(15), both: part(20), healing: part(30)}
	p.retry = min(max(part(4), 500*time.Millisecond), 10*time.Second)
	p.gap, p.allDown, p.ramp, p.after = p.retry/4, p.retry/2, p.retry, p.retry
	return p
}

// configuration is what the collector runs: two backends and a file, behind a queue on disk.
const configuration = `# written by holdfast demo
extensions:
  file_storage:
    directory: %[1]q
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: %[2]q
processors:
  batch:
    send_batch_size: 1024
    timeout: 200ms
exporters:
  otlp_grpc/primary:
    endpoint: %[3]q
    tls: {insecure: true}
    compression: none
    sending_queue: {queue_size: 50000, storage: file_storage}
    retry_on_failure: {initial_interval: 500ms, max_interval: 2s}
  otlp_grpc/secondary:
    endpoint: %[4]q
    tls: {insecure: true}
    compression: none
    retry_on_failure: {initial_interval: 500ms, max_interval: 2s}
  file/emergency:
    path: %[5]q
connectors:
  failover:
    priority_levels: [[otlp_grpc/primary], [otlp_grpc/secondary], [file/emergency]]
    # The defaults are made for days; these times are made for an audience.
    retry_interval: %[7]s
    retry_gap: %[8]s
    all_down: {probe_every: %[9]s}
    return: {ramp: %[10]s}
    backfill: {after: %[11]s}
service:
  extensions: [file_storage]
  telemetry:
    metrics:
      address: %[6]q
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [failover]}
    metrics: {receivers: [otlp], processors: [batch], exporters: [failover]}
    logs: {receivers: [otlp], processors: [batch], exporters: [failover]}
`

// configure writes the collector's configuration.
func (s *stage) configure(p pace) string {
	return fmt.Sprintf(configuration, s.path("queue"), s.otlp(), s.primary.GRPCAddr(), s.secondary.GRPCAddr(),
		s.path("emergency", "telemetry.jsonl"), s.metrics(), p.retry, p.gap, p.allDown, p.ramp, p.after)
}
