// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"strings"
	"testing"
)

// many is a process with several of everything, and with long names.
const many = `
extensions:
  status: {endpoint: "HOST:13134"}
receivers:
  otlp: {protocols: {grpc: {endpoint: "HOST:4317"}}}
  otlp/edge-of-the-network: {protocols: {http: {endpoint: "HOST:4318"}}}
exporters:
  otlp_grpc/primary: {endpoint: "HOST:14317", tls: {insecure: true}}
  otlp_http/primary: {endpoint: "http://HOST:14318"}
  otlp_grpc/a-very-long-name-of-a-backend-in-another-region: {endpoint: "HOST:24317", tls: {insecure: true}}
  otlp_grpc/audit: {endpoint: "HOST:34317", tls: {insecure: true}}
  debug:
connectors:
  failover/eu:
    priority_levels: [[otlp_grpc/primary, otlp_http/primary], [otlp_grpc/a-very-long-name-of-a-backend-in-another-region]]
service:
  extensions: [status]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp, otlp/edge-of-the-network], exporters: [failover/eu, otlp_grpc/audit]}
    metrics: {receivers: [otlp], exporters: [failover/eu]}
    logs: {receivers: [otlp/edge-of-the-network], exporters: [debug]}
`

func TestSeveralOfEverythingAndLongNamesFitEveryScreen(t *testing.T) {
	browserPath(t)
	c := newCollector(t)
	c.write(strings.ReplaceAll(many, "HOST", c.host))
	c.start()
	b := open(t, c.page())
	b.shows("#verdict", "All is well")
	b.shows("#picture", "failover/eu", "otlp_grpc/audit", "debug", "serving")
	b.look("many")
	b.stays()
}
