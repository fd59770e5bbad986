// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
)

func TestAnEmptyBlockHasTheDocumentedDefaults(t *testing.T) {
	f := otlpgrpc.Factory()
	if f.Type != "otlp_grpc" || len(f.Aliases) != 1 || f.Aliases[0] != "otlp" || f.Queue != exporter.QueueByDefault {
		t.Errorf("factory %+v", f)
	}
	c := f.Default().(*otlpgrpc.Config)
	if c.Client.Compression != "gzip" || c.Client.BalancerName != "round_robin" || c.Client.WriteBufferSize != 512<<10 ||
		c.Client.Keepalive.HasValue() || c.Timeout != 5*time.Second {
		t.Errorf("client %+v", c.Client)
	}
	d := c.Delivery()
	if d.Queue == nil || d.Queue.QueueSize != 1000 || d.Retry == nil || d.Retry.InitialInterval != 5*time.Second || d.Timeout != 5*time.Second {
		t.Errorf("delivery %+v", d)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	c := otlpgrpc.Default()
	err := confmap.NewFromStringMap(map[string]any{
		"endpoint": "dns:///backend:4317", "compression": "zstd", "timeout": "10s", "balancer_name": "pick_first",
		"headers": map[string]any{"a": "b"}, "authority": "x", "user_agent": "y", "wait_for_ready": true,
		"read_buffer_size": 1, "write_buffer_size": 2,
		"tls":              map[string]any{"insecure": true, "server_name_override": "z"},
		"keepalive":        map[string]any{"time": "30s", "timeout": "5s", "permit_without_stream": true},
		"auth":             map[string]any{"authenticator": "oauth2client"},
		"sending_queue":    map[string]any{"queue_size": 7, "storage": "file_storage/q", "batch": map[string]any{"min_size": 3}},
		"retry_on_failure": map[string]any{"max_elapsed_time": "1h"},
	}).Unmarshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := confmap.Validate(c); err != nil {
		t.Error(err)
	}
	k := c.Client.Keepalive.Get()
	if c.Client.Endpoint != "dns:///backend:4317" || c.Client.Compression != "zstd" || c.Timeout != 10*time.Second ||
		k == nil || k.Time != 30*time.Second || !c.Client.TLS.Insecure || c.Queue.QueueSize != 7 || c.Queue.Storage != "file_storage/q" ||
		c.Queue.Batch.Get().MinSize != 3 || c.Retry.MaxElapsedTime != time.Hour || c.Retry.InitialInterval != 5*time.Second {
		t.Errorf("config %+v", c)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*otlpgrpc.Config){
		"`endpoint` is required":    func(c *otlpgrpc.Config) { c.Client.Endpoint = "" },
		"missing port":              func(c *otlpgrpc.Config) { c.Client.Endpoint = "backend" },
		"`timeout`":                 func(c *otlpgrpc.Config) { c.Timeout = -1 },
		"`compression` \"deflate\"": func(c *otlpgrpc.Config) { c.Client.Compression = "deflate" },
		"balancer_name":             func(c *otlpgrpc.Config) { c.Client.BalancerName = "no_such" },
		"`queue_size`":              func(c *otlpgrpc.Config) { c.Queue.QueueSize = 0 },
		"`multiplier`":              func(c *otlpgrpc.Config) { c.Retry.Multiplier = -1 },
	} {
		c := otlpgrpc.Default()
		c.Client.Endpoint = "backend:4317"
		change(c)
		if err := confmap.Validate(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestSecretsOfTheConfigurationAreMasked(t *testing.T) {
	const canary = "c4n4ry"
	c := otlpgrpc.Default()
	if err := confmap.NewFromStringMap(map[string]any{
		"endpoint": "b:4317", "headers": map[string]any{"authorization": canary}, "tls": map[string]any{"key_pem": canary, "cert_pem": canary},
	}).Unmarshal(c); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%v", *c)} {
		if strings.Contains(text, canary) {
			t.Errorf("it prints %s", text)
		}
	}
}
