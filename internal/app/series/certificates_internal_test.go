// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package series

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func pemUntil(t *testing.T, until time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestACertificateEndsWithItsChainAndABundleWithItsLastAuthority(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	file := filepath.Join(t.TempDir(), "c.pem")
	both := slices.Concat([]byte("some words\n"), pemUntil(t, now.Add(time.Hour)), pemUntil(t, now.Add(48*time.Hour)))
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		chain bool
		want  time.Duration
	}{{true, time.Hour}, {false, 48 * time.Hour}} {
		c := &certificate{file: file, chain: tc.chain}
		if got := c.left(now); got != tc.want {
			t.Errorf("chain %v: %s left, want %s", tc.chain, got, tc.want)
		}
	}
}

func TestARenewedCertificateIsSeenAndALostOneRemembered(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	file := filepath.Join(t.TempDir(), "c.pem")
	write := func(text []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write(pemUntil(t, now.Add(time.Hour)), now)
	c := &certificate{file: file, chain: true}
	if got := c.left(now); got != time.Hour {
		t.Fatalf("%s left", got)
	}
	write(pemUntil(t, now.Add(100*time.Hour)), now.Add(time.Second))
	if got := c.left(now.Add(certificateEvery)); got != 100*time.Hour-certificateEvery {
		t.Errorf("renewed: %s left", got)
	}
	write([]byte("half a fi"), now.Add(2*time.Second))
	if got := c.left(now.Add(2 * certificateEvery)); got != 100*time.Hour-2*certificateEvery {
		t.Errorf("with a broken file: %s left", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := c.left(now.Add(3 * certificateEvery)); got != 100*time.Hour-3*certificateEvery {
		t.Errorf("without the file: %s left", got)
	}
}

func TestCertificatesAreFoundWhereverTheyAreNamed(t *testing.T) {
	found := map[string]bool{}
	findCertificates(map[string]any{"protocols": map[string]any{
		"grpc": map[string]any{"tls": map[string]any{"cert_file": "/a", "key_file": "/k", "client_ca_file": "/b"}},
		"http": []any{map[string]any{"tls": map[string]any{"ca_file": "/c", "cert_file": ""}}},
	}}, found)
	if len(found) != 3 || !found["/a"] || found["/b"] || found["/c"] {
		t.Errorf("found %v", found)
	}
}
