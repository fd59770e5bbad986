// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
)

// authority is a certificate authority of one test.
type authority struct{ *certtest.Authority }

// identity is what a certificate is made out for.
type identity struct {
	names   []string // DNS names and IP addresses
	expired bool
}

// keyPair is a certificate with its key.
type keyPair struct{ certtest.Pair }

// keyFiles are where a keyPair lies.
type keyFiles struct{ cert, key string }

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	return &authority{certtest.NewAuthority(t, name+" authority")}
}

// issue makes a certificate, good for servers and clients.
func (a *authority) issue(t *testing.T, id identity) keyPair {
	t.Helper()
	end := time.Now().Add(24 * time.Hour)
	if id.expired {
		end = time.Now().Add(-time.Hour)
	}
	return keyPair{a.Issue(t, end, id.names...)}
}

// write puts the authority's certificate into a file.
func (a *authority) write(t *testing.T, dir, name string) string {
	t.Helper()
	return replace(t, filepath.Join(dir, name+".pem"), a.PEM)
}

// write puts the pair into files, replacing those of an earlier pair in one step each.
func (p keyPair) write(t *testing.T, dir, name string) keyFiles {
	t.Helper()
	return keyFiles{
		cert: replace(t, filepath.Join(dir, name+".crt"), p.Cert),
		key:  replace(t, filepath.Join(dir, name+".key"), p.Key),
	}
}

func (p keyPair) tls(t *testing.T) tls.Certificate { return p.TLS(t) }

func replace(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}
