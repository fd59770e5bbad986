// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package debug

import (
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/confmap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// Config is a debug block: the keys of the Collector's exporter of that name.
type Config struct {
	Verbosity          string   `mapstructure:"verbosity"`           // basic, normal, detailed
	SamplingInitial    int      `mapstructure:"sampling_initial"`    // lines per second and text that are all shown
	SamplingThereafter int      `mapstructure:"sampling_thereafter"` // of the rest every n-th; 0 = none
	UseInternalLogger  bool     `mapstructure:"use_internal_logger"`
	OutputPaths        []string `mapstructure:"output_paths"` // without the internal logger; nil = stdout

	// Queue is nil unless it is written: the answer waits for the line.
	Queue *exporter.QueueConfig `mapstructure:"sending_queue"`
}

// The words of Verbosity.
const (
	basic    = "basic"
	normal   = "normal"
	detailed = "detailed"
)

// Default returns the settings of an empty block.
func Default() *Config {
	return &Config{Verbosity: basic, SamplingInitial: 2, SamplingThereafter: 1, UseInternalLogger: true}
}

// Unmarshal implements confmap.Unmarshaler: a queue that is written has the defaults of queues.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if conf.IsSet("sending_queue") {
		q := exporter.DefaultQueue()
		c.Queue = &q
	}
	type plain Config
	if err := conf.Unmarshal((*plain)(c)); err != nil {
		return err
	}
	c.Verbosity = strings.ToLower(c.Verbosity)
	return nil
}

// Validate implements confmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	switch c.Verbosity {
	case basic, normal, detailed:
	default:
		errs = append(errs, fmt.Errorf("`verbosity` %q is none of basic, normal, detailed", c.Verbosity))
	}
	if c.SamplingInitial < 0 || c.SamplingThereafter < 0 {
		errs = append(errs, errors.New("`sampling_initial` and `sampling_thereafter` must not be negative"))
	}
	switch {
	case c.UseInternalLogger && c.OutputPaths != nil:
		errs = append(errs, errors.New("`output_paths` needs `use_internal_logger: false`"))
	case !c.UseInternalLogger && c.OutputPaths != nil && len(c.OutputPaths) == 0:
		errs = append(errs, errors.New("`output_paths` must not be empty"))
	}
	return errors.Join(errs...)
}

// Writes are the files that Start opens, by key.
func (c *Config) Writes() map[string]string {
	files := map[string]string{}
	for i, path := range c.OutputPaths {
		if path != "stdout" && path != "stderr" {
			files[fmt.Sprintf("output_paths::%d", i)] = path
		}
	}
	return files
}

// Delivery implements exporter.Deliverer.
func (c *Config) Delivery() exporter.Delivery { return exporter.Delivery{Queue: c.Queue} }

var (
	_ exporter.Deliverer  = (*Config)(nil)
	_ confmap.Unmarshaler = (*Config)(nil)
)
