// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// UseVault makes the exporter an emergency level's, before it is started: data goes into v, and the exporter opens no
// file itself. Whoever opened v closes it, after the exporter's last Send.
func (e *Exporter) UseVault(v *vault.Vault, isFramed bool) error {
	if isFramed != e.cfg.framed() || e.started {
		return fmt.Errorf("%q is the emergency file of another format", v.Path())
	}
	e.vault = v
	return nil
}

// keep puts records into the vault. What nobody asked a receipt for, as a plain destination of the same file does, is
// written and synced without one.
func (e *Exporter) keep(ctx context.Context, r *exporter.Request, data []byte) exporter.Verdict {
	entry := vault.Entry{Data: data, Items: r.Items, Plain: r.Receipt == nil}
	if r.Receipt != nil {
		entry.Owner = vault.Owner{Pipeline: r.Receipt.Pipeline, Connector: r.Receipt.Connector, Signal: r.Signal.String()}
		for _, rec := range r.Receipt.Records {
			entry.Records = append(entry.Records, vault.Record{Seq: rec.Seq, Accepted: rec.Accepted.UnixNano()})
		}
	}
	doubt, err := e.vault.Put(ctx, entry)
	switch {
	case doubt:
		return exporter.Verdict{Kind: exporter.Ambiguous, Err: fmt.Errorf("write %q: %w", e.cfg.Path, err)}
	case err != nil:
		return exporter.Verdict{Kind: exporter.Retry, Err: err}
	}
	return exporter.Deliver()
}

// Requests turns records, as an Exporter made them of one request, back into that request as wire bytes. Where requests
// of a signal are joined by concatenation it is one request again.
func Requests(s otlp.Signal, records []byte) ([]byte, error) {
	r := &Reader{signal: s, in: bufio.NewReader(bytes.NewReader(records))}
	defer func() {
		if r.zstd != nil {
			r.zstd.Close()
		}
	}()
	r.lines = len(records) > 0 && records[0] == '{'
	var out []byte
	for n := 0; ; n++ {
		got, b, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		case got != s:
			return nil, fmt.Errorf("record %d is of signal %s, not %s", n, got, s)
		case n > 0 && !otlp.Joinable(s):
			return nil, fmt.Errorf("several requests of signal %s", s)
		}
		if n == 0 {
			out = b
		} else {
			out = append(out, b...)
		}
	}
}
