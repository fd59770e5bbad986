// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"

	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
)

// Config is what stands below protocols::http: the Collector's server settings and the paths of the signals.
// Profiles have the fixed path /v1development/profiles.
type Config struct {
	ServerConfig   confighttp.ServerConfig `mapstructure:",squash"`
	TracesURLPath  string                  `mapstructure:"traces_url_path,omitempty"`
	MetricsURLPath string                  `mapstructure:"metrics_url_path,omitempty"`
	LogsURLPath    string                  `mapstructure:"logs_url_path,omitempty"`
}

const profilesURLPath = "/v1development/profiles"

// DefaultConfig returns the Collector's settings with our defaults (compat, 4.4; faults, part C). The size of a
// request stays 0: its default follows the admission budget, which the configuration does not know.
func DefaultConfig() Config {
	cfg := Config{
		ServerConfig: confighttp.NewDefaultServerConfig(), TracesURLPath: "/v1/traces", MetricsURLPath: "/v1/metrics",
		LogsURLPath: "/v1/logs",
	}
	cfg.ServerConfig.NetAddr = confignet.AddrConfig{Transport: confignet.TransportTypeTCP, Endpoint: "localhost:4318"}
	cfg.ServerConfig.ReadTimeout = time.Minute
	cfg.ServerConfig.ReadHeaderTimeout = 10 * time.Second
	return cfg
}

// Unmarshal implements confmap.Unmarshaler. The Collector's settings no longer heed `keep_alives_enabled: false`,
// which is their old spelling of `keepalive::enabled: false`.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if err := conf.Unmarshal(c); err != nil {
		return err
	}
	if on, ok := conf.Get("keep_alives_enabled").(bool); ok && !on {
		c.ServerConfig.Keepalive = configoptional.None[confighttp.KeepaliveServerConfig]()
	}
	return nil
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.ServerConfig.NetAddr.Endpoint == "" {
		errs = append(errs, errors.New("`endpoint` must not be empty"))
	}
	if n := c.ServerConfig.MaxRequestBodySize; n < 0 || n > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("`max_request_body_size` %d is not between 0 and %d", n, math.MaxInt32))
	}
	for _, name := range c.ServerConfig.CompressionAlgorithms {
		if _, ok := compression.Parse(name); !ok {
			errs = append(errs, fmt.Errorf("`compression_algorithms`: %q is none of gzip, zstd, snappy, deflate, zlib", name))
		}
	}
	seen := map[string]string{profilesURLPath: "profiles"}
	for _, p := range []struct{ key, path string }{
		{"traces_url_path", c.TracesURLPath}, {"metrics_url_path", c.MetricsURLPath}, {"logs_url_path", c.LogsURLPath},
	} {
		path, err := cleanPath(p.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("`%s` %q is no path: %w", p.key, p.path, err))
		} else if other := seen[path]; other != "" {
			errs = append(errs, fmt.Errorf("`%s` and `%s` are both %q", other, p.key, path))
		}
		seen[path] = p.key
	}
	return errors.Join(errs...)
}

// cleanPath is the path a request has to have: with a leading slash, without query.
func cleanPath(path string) (string, error) {
	u, err := url.Parse(path)
	if err != nil {
		return "", err
	}
	if u.Path == "" {
		return "", errors.New("it is empty")
	}
	if u.Path[0] != '/' {
		return "/" + u.Path, nil
	}
	return u.Path, nil
}
