// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// Config is an otlp_http block: the keys of the Collector's exporter of that name.
type Config struct {
	Client confighttp.ClientConfig `mapstructure:",squash"`

	Queue exporter.QueueConfig `mapstructure:"sending_queue"`
	Retry exporter.RetryConfig `mapstructure:"retry_on_failure"`

	// One signal's own URL, used as it is; without it the signal's path is appended to Endpoint.
	TracesEndpoint   string `mapstructure:"traces_endpoint"`
	MetricsEndpoint  string `mapstructure:"metrics_endpoint"`
	LogsEndpoint     string `mapstructure:"logs_endpoint"`
	ProfilesEndpoint string `mapstructure:"profiles_endpoint"`

	Encoding string `mapstructure:"encoding"` // proto, json
}

// The words of Encoding.
const (
	encodingProto = "proto"
	encodingJSON  = "json"
)

// Default returns the settings of an empty block. The HTTP/2 pings find a peer that went away while nothing is
// acknowledged.
func Default() *Config {
	c := &Config{
		Client:   confighttp.NewDefaultClientConfig(),
		Queue:    exporter.DefaultQueue(),
		Retry:    exporter.DefaultRetry(),
		Encoding: encodingProto,
	}
	c.Client.Timeout = 30 * time.Second
	c.Client.Compression = configcompression.TypeGzip
	c.Client.WriteBufferSize = 512 << 10
	c.Client.HTTP2ReadIdleTimeout = 20 * time.Second
	c.Client.HTTP2PingTimeout = 10 * time.Second
	return c
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	found := false
	for _, key := range endpointKeys {
		written := *key.of(c)
		if written == "" {
			continue
		}
		found = true
		if err := checkURL(written); err != nil {
			errs = append(errs, fmt.Errorf("`%s`: %w", key.name, err))
		}
	}
	errs = append(errs, wire.CheckHeaders(c.Client.Headers))
	if !found {
		errs = append(errs, errors.New("at least one endpoint is required: `endpoint` or one of `traces_endpoint`, "+
			"`metrics_endpoint`, `logs_endpoint`, `profiles_endpoint`"))
	}
	if c.Encoding != encodingProto && c.Encoding != encodingJSON {
		errs = append(errs, fmt.Errorf("`encoding` %q is none of proto, json", c.Encoding))
	}
	if c.Client.Timeout < 0 {
		errs = append(errs, errors.New("`timeout` must not be negative"))
	}
	return errors.Join(errs...)
}

// endpointKeys are the keys that hold a URL; signal 0 is the one for all.
var endpointKeys = [...]struct {
	name   string
	signal otlp.Signal
	of     func(*Config) *string
}{
	{"endpoint", 0, func(c *Config) *string { return &c.Client.Endpoint }},
	{"traces_endpoint", otlp.Traces, func(c *Config) *string { return &c.TracesEndpoint }},
	{"metrics_endpoint", otlp.Metrics, func(c *Config) *string { return &c.MetricsEndpoint }},
	{"logs_endpoint", otlp.Logs, func(c *Config) *string { return &c.LogsEndpoint }},
	{"profiles_endpoint", otlp.Profiles, func(c *Config) *string { return &c.ProfilesEndpoint }},
}

func checkURL(written string) error {
	u, err := url.Parse(written)
	if err != nil {
		// The parser's text repeats the URL, which may hold a password.
		return errors.New("not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("scheme %q is none of http, https", u.Scheme)
	}
	if u.Host == "" {
		return errors.New("no host")
	}
	return wire.CheckPort(u.Host)
}

// paths are what is appended to Endpoint, by signal.
var paths = [...]string{
	otlp.Traces:   "v1/traces",
	otlp.Metrics:  "v1/metrics",
	otlp.Logs:     "v1/logs",
	otlp.Profiles: "v1development/profiles",
}

// urls returns the URL of each signal, nil where there is none.
func (c *Config) urls() ([len(paths)]*url.URL, error) {
	var out [len(paths)]*url.URL
	for _, key := range endpointKeys {
		written := *key.of(c)
		if written == "" {
			continue
		}
		if err := checkURL(written); err != nil {
			return out, fmt.Errorf("`%s`: %w", key.name, err)
		}
		u, err := url.Parse(written)
		if err != nil {
			return out, fmt.Errorf("`%s`: not a URL", key.name)
		}
		if key.signal != 0 {
			out[key.signal] = u
			continue
		}
		for _, s := range otlp.Signals {
			own := *u
			own.Path = strings.TrimSuffix(u.Path, "/") + "/" + paths[s]
			own.RawPath = ""
			out[s] = &own
		}
	}
	return out, nil
}

// Delivery implements exporter.Deliverer.
func (c *Config) Delivery() exporter.Delivery {
	return exporter.Delivery{Queue: &c.Queue, Retry: &c.Retry, Timeout: c.Client.Timeout}
}

var _ exporter.Deliverer = (*Config)(nil)
