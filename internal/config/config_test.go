// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/debug"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/extension/healthcheck"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/processor/batch"
	"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpreceiver"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// registry holds real types, and one with every shape a configuration may have.
func registry() *config.Registry {
	return &config.Registry{Types: []config.Type{
		{Kind: config.Receivers, Name: "otlp", Default: otlpreceiver.Default, Supplied: true},
		{Kind: config.Processors, Name: "batch", Default: batch.Default, Supplied: true},
		{Kind: config.Processors, Name: "memory_limiter", Default: memorylimiter.Default, Supplied: true},
		{Kind: config.Exporters, Name: "otlp_grpc", Aliases: []string{"otlp"}, Default: func() any { return otlpgrpc.Default() }},
		{Kind: config.Exporters, Name: "otlp_http", Aliases: []string{"otlphttp"},
			Default: func() any { return otlphttp.Default() }},
		{Kind: config.Exporters, Name: "file", Default: func() any { return file.Default() }},
		{Kind: config.Exporters, Name: "debug", Aliases: []string{"logging"}, Default: debug.Factory().Default,
			Supplied: true},
		{Kind: config.Exporters, Name: "shapes", Default: func() any { return defaultShapes() }},
		{Kind: config.Connectors, Name: "failover", Default: failover.Default},
		{Kind: config.Extensions, Name: "file_storage", Default: journal.Default},
		{Kind: config.Extensions, Name: "health_check", Default: healthcheck.Default, Supplied: true},
	}}
}

type shapes struct {
	Flat     `mapstructure:",squash"`
	Pointer  *inner                         `mapstructure:"pointer"`
	Optional configoptional.Optional[inner] `mapstructure:"optional"`
	ByName   map[string]inner               `mapstructure:"by_name"`
	List     []inner                        `mapstructure:"list"`
	Words    []string                       `mapstructure:"words"`
	Anything any                            `mapstructure:"anything"`
	Secret   configopaque.String            `mapstructure:"secret"`
	Secrets  map[string]configopaque.String `mapstructure:"secrets"`
	Headers  configopaque.MapList           `mapstructure:"headers"`
	Hidden   string                         `mapstructure:"-"`
	Rest     struct {
		Extra map[string]any `mapstructure:",remain"`
	} `mapstructure:"rest"`
}

type Flat struct {
	Text  string  `mapstructure:"text"`
	Count int     `mapstructure:"count"`
	Share float64 `mapstructure:"share"`
}

type inner struct {
	On    bool                `mapstructure:"on"`
	After time.Duration       `mapstructure:"after"`
	Token configopaque.String `mapstructure:"token"`
}

func (i *inner) Validate() error {
	if i.After < 0 {
		return errors.New("`after` must not be negative")
	}
	return nil
}

func defaultShapes() *shapes {
	return &shapes{
		Flat: Flat{Text: "default", Count: 1}, Optional: configoptional.Default(inner{After: time.Minute}),
	}
}

// options reads the flags of a case from its first line, `# flags: strict fragment set:a.b=c`.
func options(t *testing.T, path string) config.Options {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts := config.Options{URIs: []string{path}, Registry: registry()}
	first, _, _ := strings.Cut(string(text), "\n")
	words, ok := strings.CutPrefix(first, "# flags:")
	if !ok {
		return opts
	}
	for _, w := range strings.Fields(words) {
		key, value, _ := strings.Cut(w, ":")
		switch key {
		case "strict":
			opts.Strict = true
		case "fragment":
			opts.Fragment = true
		case "here":
			opts.Here = true
		case "portable":
			opts.Portable = true
		case "set":
			opts.Sets = append(opts.Sets, value)
		case "with":
			opts.URIs = append(opts.URIs, filepath.Join(filepath.Dir(path), value))
		case "yaml":
			opts.URIs = append(opts.URIs, w)
		default:
			t.Fatalf("%s: unknown flag %q", path, w)
		}
	}
	return opts
}

func lines(findings []config.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// golden compares got with the file, or rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func cases(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases %s: %v", pattern, err)
	}
	t.Setenv("HOLDFAST_TEST_HOST", "backend.test")
	t.Setenv("HOLDFAST_TEST_PORT", "4317")
	t.Setenv("HOLDFAST_TEST_TOKEN", "s3cret")
	return paths
}

// Every *.good.yaml loads; its golden file holds what is said about it, and the effective document with secrets
// masked.
func TestGoodConfigurationsLoadAsWritten(t *testing.T) {
	for _, path := range cases(t, "testdata/*.good.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := config.Load(context.Background(), options(t, path))
			if err != nil {
				t.Fatal(err)
			}
			text, err := config.MarshalYAML(c.Redact(c.Effective))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "s3cret") {
				t.Error("a secret is printed")
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".golden", lines(c.Findings)+"---\n"+string(text))
		})
	}
}

// Every *.bad.yaml is refused with exactly the message in its golden file: all findings at once, by place.
func TestBadConfigurationsSayWhatIsWrong(t *testing.T) {
	for _, path := range cases(t, "testdata/*.bad.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := config.Load(context.Background(), options(t, path))
			var invalid *config.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, %v; want an InvalidError", c, err)
			}
			if c != nil || invalid.Partial == nil {
				t.Error("an invalid configuration must be returned with the error, and only there")
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".golden", lines(invalid.Findings))
		})
	}
}
