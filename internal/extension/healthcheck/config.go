// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
)

// Config is the extension's configuration, keys as the Collector's (compat, 4.5).
type Config struct {
	// ServerConfig is named, not embedded: its Unmarshal would be promoted and swallow the keys below.
	ServerConfig confighttp.ServerConfig `mapstructure:",squash"`

	// Path is answered in the Collector's words; /livez, /readyz and /pipelines stand beside it.
	Path string `mapstructure:"path"`
	// ResponseBody replaces the Collector's bodies.
	ResponseBody *ResponseBody `mapstructure:"response_body"`
	// CheckCollectorPipeline says when a destination fails, and whether Path tells of it.
	CheckCollectorPipeline PipelineCheck `mapstructure:"check_collector_pipeline"`
}

// ResponseBody is what Path and / answer instead of the status.
type ResponseBody struct {
	Healthy   string `mapstructure:"healthy"`
	Unhealthy string `mapstructure:"unhealthy"`
}

// PipelineCheck is check_collector_pipeline. Its values hold for /pipelines whether it is enabled or not.
type PipelineCheck struct {
	Enabled                  bool          `mapstructure:"enabled"`
	Interval                 time.Duration `mapstructure:"interval"`
	ExporterFailureThreshold int64         `mapstructure:"exporter_failure_threshold"`
}

// Default returns the defaults: loopback, since whoever asks learns names and errors of backends.
func Default() any {
	f := extension.DefaultFailing()
	return &Config{
		ServerConfig:           extension.ServerDefaults("localhost:13133"),
		Path:                   "/",
		CheckCollectorPipeline: PipelineCheck{Interval: f.Interval, ExporterFailureThreshold: f.Threshold},
	}
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if c.ServerConfig.NetAddr.Endpoint == "" {
		errs = append(errs, errors.New("`endpoint` must not be empty"))
	}
	if !strings.HasPrefix(c.Path, "/") {
		errs = append(errs, fmt.Errorf("`path` %q must begin with /", c.Path))
	}
	if c.CheckCollectorPipeline.Interval <= 0 {
		errs = append(errs, errors.New("`check_collector_pipeline::interval` must be positive"))
	}
	if c.CheckCollectorPipeline.ExporterFailureThreshold <= 0 {
		errs = append(errs, errors.New("`check_collector_pipeline::exporter_failure_threshold` must be positive"))
	}
	return errors.Join(errs...)
}
