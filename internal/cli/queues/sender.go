// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/app/replay"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// senderFlags say where a command sends requests, and how.
type senderFlags struct {
	to            string
	headers       []string
	ca, cert, key string
	skipVerify    bool
	compression   string
	timeout       time.Duration
}

func (f *senderFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.to, "to", "", "grpc://HOST:PORT, grpcs://HOST:PORT, http://HOST:PORT or https://HOST:PORT[/PATH] (required)")
	s.StringArrayVar(&f.headers, "header", nil, "header K=V to send along; may be repeated")
	s.StringVar(&f.ca, "ca", "", "file with the CA to trust")
	s.StringVar(&f.cert, "cert", "", "file with a client certificate")
	s.StringVar(&f.key, "key", "", "file with its key")
	s.BoolVar(&f.skipVerify, "skip-verify", false, "trust any certificate")
	s.StringVar(&f.compression, "compression", "gzip", "gzip, zstd, snappy or none")
	s.DurationVar(&f.timeout, "timeout", 10*time.Second, "of one request")
}

// keys makes the exporter's keys of the flags.
func (f *senderFlags) keys() (map[string]any, error) {
	switch {
	case f.to == "":
		return nil, errors.New("--to URL is needed")
	case (f.cert == "") != (f.key == ""):
		return nil, errors.New("--cert and --key belong together")
	}
	secure := strings.HasPrefix(f.to, "grpcs://") || strings.HasPrefix(f.to, "https://")
	if !secure && (f.ca != "" || f.cert != "" || f.skipVerify) {
		return nil, fmt.Errorf("--to %q speaks no TLS: --ca, --cert, --key and --skip-verify make no sense with it", f.to)
	}
	keys := map[string]any{"timeout": f.timeout.String(), "compression": f.compression}
	if secure {
		keys["tls"] = map[string]any{"ca_file": f.ca, "cert_file": f.cert, "key_file": f.key, "insecure_skip_verify": f.skipVerify}
	}
	headers := map[string]any{}
	for _, h := range f.headers {
		k, v, found := strings.Cut(h, "=")
		if !found || k == "" {
			return nil, errors.New("--header: K=V is needed")
		}
		headers[k] = v
	}
	if len(headers) > 0 {
		keys["headers"] = headers
	}
	return keys, nil
}

// start makes the sender and starts it. The caller stops it.
func (f *senderFlags) start(ctx context.Context) (exporter.Exporter, error) {
	keys, err := f.keys()
	if err != nil {
		return nil, err
	}
	sender, err := replay.NewSender(f.to, keys, telemetry.Nop(), command.Version)
	if err != nil {
		return nil, err
	}
	if err := sender.Start(ctx, components.Host{}); err != nil {
		return nil, fmt.Errorf("send to %q: %w", f.to, err)
	}
	return sender, nil
}
