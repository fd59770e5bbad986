// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/config/configtls"
	"go.uber.org/zap"
)

// certificatePoll is how long files are trusted not to have changed. They are looked at by handshakes only.
const certificatePoll = time.Second

// expiryWarnings are the times before a certificate's end at which a warning is due (faults, part D, 2).
var expiryWarnings = [...]time.Duration{21 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, 0}

// certificates keeps the TLS configuration of a listener in step with its files. New handshakes see a changed file
// within a second or so; what cannot be used is warned of, and the old one stays.
type certificates struct {
	cfg      configtls.ServerConfig
	protos   []string
	log      *zap.Logger
	current  atomic.Pointer[tls.Config]
	notAfter atomic.Int64 // of the certificate in use, Unix seconds
	now      func() time.Time

	mu struct {
		sync.Mutex
		checked time.Time
		seen    [sha256.Size]byte // contents at the last look, used or not
		warned  int               // how many of expiryWarnings were given for the certificate in use
	}
}

// TLS returns the configuration of a listener that speaks the given application protocols. A certificate that has
// expired is an error.
func (d *Door) TLS(ctx context.Context, cfg configtls.ServerConfig, protos ...string) (*tls.Config, error) {
	// Files are watched here; the settings' own reloading would make a half-written file a failed handshake.
	cfg.ReloadInterval, cfg.ReloadClientCAFile = 0, false
	c := &certificates{cfg: cfg, protos: protos, log: d.Log(), now: time.Now}
	c.mu.seen = c.digest()
	c.mu.checked = c.now()
	loaded, notAfter, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	if c.now().After(notAfter) {
		return nil, fmt.Errorf("certificate %s expired on %s", c.name(), notAfter.UTC().Format(time.RFC3339))
	}
	c.use(loaded, notAfter)
	c.mu.Lock()
	c.warnLocked()
	c.mu.Unlock()
	d.set.Telemetry.Metrics.GaugeFunc("holdfast_certificate_expiry_seconds", "Time until a certificate expires.",
		func() float64 { return time.Until(time.Unix(c.notAfter.Load(), 0)).Seconds() },
		"component", d.set.ID, "file", c.name())
	outer := loaded.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.get(), nil }
	return outer, nil
}

// name is the certificate's file for people and metrics.
func (c *certificates) name() string {
	if c.cfg.CertFile != "" {
		return c.cfg.CertFile
	}
	return "cert_pem"
}

// load reads everything anew.
func (c *certificates) load(ctx context.Context) (*tls.Config, time.Time, error) {
	cfg, err := c.cfg.LoadTLSConfig(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	cfg.NextProtos = c.protos
	cert, err := cfg.GetCertificate(nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	leaf := cert.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, time.Time{}, err
		}
	}
	return cfg, leaf.NotAfter, nil
}

func (c *certificates) use(cfg *tls.Config, notAfter time.Time) {
	c.current.Store(cfg)
	c.notAfter.Store(notAfter.Unix())
}

// get is the configuration for the next handshake.
func (c *certificates) get() *tls.Config {
	if !c.mu.TryLock() {
		return c.current.Load() // somebody looks already
	}
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.mu.checked) >= certificatePoll {
		c.mu.checked = now
		c.refreshLocked()
		c.warnLocked()
	}
	return c.current.Load()
}

// refreshLocked loads the files if their contents changed since the last look.
func (c *certificates) refreshLocked() {
	digest := c.digest()
	if digest == c.mu.seen {
		return
	}
	c.mu.seen = digest
	cfg, notAfter, err := c.load(context.Background())
	if err == nil && c.now().After(notAfter) {
		err = fmt.Errorf("it expired on %s", notAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		c.log.Warn("Changed certificate cannot be used, the old one stays", zap.String("file", c.name()), zap.Error(err))
		return
	}
	c.use(cfg, notAfter)
	c.mu.warned = 0
	c.log.Info("Certificate was read again", zap.String("file", c.name()), zap.Time("not_after", notAfter))
}

// warnLocked warns once at each of expiryWarnings.
func (c *certificates) warnLocked() {
	left := time.Unix(c.notAfter.Load(), 0).Sub(c.now())
	due := 0
	for due < len(expiryWarnings) && left <= expiryWarnings[due] {
		due++
	}
	if due > c.mu.warned {
		c.mu.warned = due
		c.log.Warn("Certificate expires soon", zap.String("file", c.name()), zap.Duration("left", left.Truncate(time.Second)))
	}
}

// digest is over the contents of all files; one that cannot be read counts as its error.
func (c *certificates) digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, file := range []string{c.cfg.CertFile, c.cfg.KeyFile, c.cfg.ClientCAFile, c.cfg.CAFile} {
		if file == "" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			b = []byte(err.Error())
		}
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	h.Sum(sum[:0])
	return sum
}
