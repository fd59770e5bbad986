// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
)

func TestAnEmptyBlockHasTheDocumentedDefaults(t *testing.T) {
	f := otlphttp.Factory()
	if f.Type != "otlp_http" || len(f.Aliases) != 1 || f.Aliases[0] != "otlphttp" || f.Queue != exporter.QueueByDefault {
		t.Errorf("factory %+v", f)
	}
	c := f.Default().(*otlphttp.Config)
	if c.Client.Compression != "gzip" || c.Client.Timeout != 30*time.Second || c.Encoding != "proto" || !c.Client.ForceAttemptHTTP2 ||
		c.Client.HTTP2ReadIdleTimeout != 20*time.Second || c.Client.HTTP2PingTimeout != 10*time.Second || c.Client.WriteBufferSize != 512<<10 {
		t.Errorf("client %+v", c.Client)
	}
	d := c.Delivery()
	if d.Queue == nil || d.Queue.NumConsumers != 10 || d.Retry == nil || d.Timeout != 30*time.Second {
		t.Errorf("delivery %+v", d)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	c := otlphttp.Default()
	err := confmap.NewFromStringMap(map[string]any{
		"endpoint": "https://b", "traces_endpoint": "https://t", "metrics_endpoint": "https://m", "logs_endpoint": "https://l",
		"profiles_endpoint": "https://p", "encoding": "json", "compression": "zstd", "compression_params": map[string]any{"level": 3},
		"timeout": "10s", "headers": map[string]any{"a": "b"}, "proxy_url": "http://proxy:3128", "max_conns_per_host": 4,
		"http2_read_idle_timeout": "5s", "http2_ping_timeout": "6s", "cookies": map[string]any{}, "force_attempt_http2": false,
		"read_buffer_size": 1, "write_buffer_size": 2, "tls": map[string]any{"insecure_skip_verify": true},
		"keepalive":        map[string]any{"idle_conn_timeout": "7s", "max_idle_conns": 8, "max_idle_conns_per_host": 9},
		"auth":             map[string]any{"authenticator": "oauth2client"},
		"sending_queue":    map[string]any{"enabled": false},
		"retry_on_failure": map[string]any{"enabled": false},
	}).Unmarshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := confmap.Validate(c); err != nil {
		t.Error(err)
	}
	k := c.Client.Keepalive.Get()
	if c.Client.Endpoint != "https://b" || c.ProfilesEndpoint != "https://p" || c.Encoding != "json" || c.Client.CompressionParams.Level != 3 ||
		c.Client.Timeout != 10*time.Second || c.Client.ForceAttemptHTTP2 || k == nil || k.MaxIdleConns != 8 ||
		k.MaxIdleConnsPerHost != 9 || k.IdleConnTimeout != 7*time.Second || c.Queue.Enabled || c.Retry.Enabled {
		t.Errorf("config %+v", c)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*otlphttp.Config){
		"at least one endpoint":   func(c *otlphttp.Config) { c.Client.Endpoint = "" },
		"`endpoint`: scheme":      func(c *otlphttp.Config) { c.Client.Endpoint = "backend:4318" },
		"`endpoint`: no host":     func(c *otlphttp.Config) { c.Client.Endpoint = "http:///x" },
		"`logs_endpoint`: not a":  func(c *otlphttp.Config) { c.LogsEndpoint = "http://%%" },
		"`encoding` \"xml\"":      func(c *otlphttp.Config) { c.Encoding = "xml" },
		"`timeout`":               func(c *otlphttp.Config) { c.Client.Timeout = -1 },
		"unsupported parameters":  func(c *otlphttp.Config) { c.Client.CompressionParams.Level = 99 },
		"`num_consumers` must be": func(c *otlphttp.Config) { c.Queue.NumConsumers = 0 },
	} {
		c := otlphttp.Default()
		c.Client.Endpoint = "http://backend:4318"
		change(c)
		if err := confmap.Validate(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
