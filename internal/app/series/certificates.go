// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package series

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

const (
	// certificateEvery is how often a file is looked at again: certificates are renewed beside a running process.
	certificateEvery = time.Minute
	// maxCertificate bounds a file that is read as one.
	maxCertificate = 4 << 20
)

// The keys of TLS settings that name files of certificates. One's own chain ends with its first certificate that does;
// of authorities one that holds is enough.
var certificateKeys = map[string]bool{"cert_file": true, "ca_file": false, "client_ca_file": false}

// certificate is a file of certificates in use.
type certificate struct {
	component, file string
	chain           bool // one's own; else authorities
	mu              struct {
		sync.Mutex
		looked, changed time.Time
		until           time.Time // zero = never read
	}
}

// Secured is a component that runs, and its settings as written.
type Secured struct {
	Component string
	Settings  any // a tree of map[string]any and []any
}

// RegisterCertificates shows how long the certificates of the components that run are good for.
func RegisterCertificates(m *telemetry.Registry, components []Secured) {
	const name = "holdfast_certificate_expiry_seconds"
	// What is not used any more may expire.
	m.Forget(func(series string, _ []string) bool { return series == name })
	for _, c := range certificates(components) {
		if c.left(time.Now()); c.mu.until.IsZero() {
			continue // nothing that can be read; whoever needs it says so
		}
		m.GaugeFunc(name, "Until the certificates in the file expire; of authorities until the last one does.",
			func() float64 { return c.left(time.Now()).Seconds() }, "component", c.component, "file", c.file)
	}
}

// certificates finds the files in the settings of components.
func certificates(components []Secured) []*certificate {
	var out []*certificate
	for _, x := range components {
		found := map[string]bool{} // by file: chain
		findCertificates(x.Settings, found)
		for file, chain := range found {
			out = append(out, &certificate{component: x.Component, file: file, chain: chain})
		}
	}
	return out
}

func findCertificates(tree any, found map[string]bool) {
	switch t := tree.(type) {
	case map[string]any:
		for key, v := range t {
			file, isText := v.(string)
			if chain, is := certificateKeys[key]; is && isText && file != "" {
				found[file] = chain
				continue
			}
			findCertificates(v, found)
		}
	case []any:
		for _, v := range t {
			findCertificates(v, found)
		}
	}
}

// left is how long it is good for; a file that cannot be read any more counts as it was.
func (c *certificate) left(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.looked.IsZero() || now.Sub(c.mu.looked) >= certificateEvery {
		c.mu.looked = now
		if info, err := os.Stat(c.file); err == nil && !info.ModTime().Equal(c.mu.changed) && info.Size() <= maxCertificate {
			if until, err := c.read(); err == nil {
				c.mu.until, c.mu.changed = until, info.ModTime()
			}
		}
	}
	return c.mu.until.Sub(now)
}

func (c *certificate) read() (until time.Time, err error) {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return time.Time{}, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // one of a bundle that is of no use to anybody
		}
		if sooner := one.NotAfter.Before(until); until.IsZero() || sooner == c.chain {
			until = one.NotAfter
		}
	}
	if until.IsZero() {
		return until, errors.New("no certificate")
	}
	return until, nil
}
