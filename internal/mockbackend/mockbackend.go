// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package mockbackend is an OTLP backend that can be told what to do wrong, and a stream proxy that spoils what passes.
//
// It stands behind the back door, outside the product: it receives OTLP over gRPC and HTTP, notes what arrived and what
// it answered (ledger.Sink), and plays the faults it is given as text. `holdfast sink` is this package as a process;
// tests and the demo start it in their own, on addresses or in memory, so that it works in virtual time too. Storing and
// answering are separate: a backend may store and reset, or answer OK and forget. It knows nothing of the product.
package mockbackend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

const (
	// maxRequest bounds one request, as it comes and decoded, in bytes. It is far above what the product sends.
	maxRequest = 512 << 20
	// maxRemembered is how many requests are remembered for GET /requests.
	maxRemembered = 256
	// stopTime is how long Stop waits for answers that are under way before it cuts connections.
	stopTime = 2 * time.Second
)

// ErrStopped is what calls return after Stop.
var ErrStopped = errors.New("sink is stopped")

// Options say what a backend is. At least one of the addresses or listeners is needed.
type Options struct {
	Name string // required; names the notes: sink-NAME.tsv

	// Addresses to listen on, such as 127.0.0.1:0; empty: off.
	GRPC, HTTP string
	// Listeners in place of addresses. They are closed by Stop. One that is no Mem cannot be closed and opened again, so
	// there `refuse` resets connections instead.
	GRPCListener, HTTPListener net.Listener
	// Control is the address of the control API: HOST:PORT on loopback, or unix:PATH; empty: off.
	Control string

	Dir       string // where notes go; empty: none are taken
	CountOnly bool   // count items, take no notes, do not look into them
	Faults    []string
	Seed      uint64 // of the faults' choices; 0: 1

	// TLS: with the certificate of the test CA made at start, or with the given files. CA asks clients for a certificate.
	TLS              bool
	TLSCert, TLSKey  string
	CA               string
	KeepBodies       bool // Requests returns the bytes of requests, decompressed
	MaxRequestMemory int  // bytes kept for KeepBodies; 0: 64 MiB
}

// Backend is a running backend. Its methods may be called by many goroutines at once.
type Backend struct {
	o       Options
	doors   []*door
	checker *item.Checker
	notes   *ledger.Sink // nil: none
	certs   *certificates
	tls     *tls.Config // nil: plain, unless a fault says otherwise
	control *controlServer

	rules  rules
	silent gate
	stop   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
	err    error // of Stop, behind once

	grpc []*grpc.Server
	http []*http.Server

	inflight atomic.Int64
	conns    struct{ total, open atomicCount }
	mu       struct {
		sync.Mutex
		err      error
		counts   counts
		answers  map[string]uint64
		requests []Request // a ring
		next     int
		kept     int // bytes
		waiters  map[chan struct{}]struct{}
	}
}

// Start starts a backend: it listens when Start returns, and its faults are in force.
func Start(o Options) (*Backend, error) {
	if o.Name == "" {
		return nil, errors.New("sink: no name")
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.MaxRequestMemory == 0 {
		o.MaxRequestMemory = 64 << 20
	}
	b := &Backend{o: o, checker: item.NewChecker(), stop: make(chan struct{})}
	b.rules.changed = make(chan struct{}, 1)
	b.mu.answers = make(map[string]uint64)
	b.mu.waiters = make(map[chan struct{}]struct{})
	if err := b.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("sink %s: %w", o.Name, err), b.Stop())
	}
	return b, nil
}

func (b *Backend) start() (err error) {
	if b.certs, b.tls, err = b.makeTLS(); err != nil {
		return err
	}
	if b.o.Dir != "" {
		if b.notes, err = ledger.CreateSink(b.o.Dir, b.o.Name, b.checker); err != nil {
			return err
		}
		if err = os.WriteFile(filepath.Join(b.o.Dir, "ca.pem"), b.certs.caPEM, 0o644); err != nil { //nolint:gosec // for everybody
			return err
		}
	}
	var faults []*Fault
	for _, text := range b.o.Faults {
		f, err := ParseFault(text)
		if err != nil {
			return err
		}
		faults = append(faults, f)
	}
	for _, d := range []struct {
		kind, addr string
		given      net.Listener
	}{{"grpc", b.o.GRPC, b.o.GRPCListener}, {"http", b.o.HTTP, b.o.HTTPListener}} {
		if err := b.open(d.kind, d.addr, d.given); err != nil {
			return err
		}
	}
	if len(b.doors) == 0 {
		return errors.New("no address to listen on")
	}
	if b.o.Control != "" {
		if b.control, err = b.startControl(b.o.Control); err != nil {
			return err
		}
	}
	b.rules.mu.Lock()
	for _, f := range faults {
		b.addLocked(f)
	}
	b.rules.publishLocked()
	b.applyLocked(time.Now())
	b.rules.mu.Unlock()
	b.wg.Go(b.direct)
	for _, d := range b.doors {
		b.serve(d)
	}
	return nil
}

// open makes a door; nothing is served yet.
func (b *Backend) open(kind, addr string, given net.Listener) error {
	if addr == "" && given == nil {
		return nil
	}
	inner := given
	if inner == nil {
		var err error
		if inner, err = net.Listen("tcp", addr); err != nil { //nolint:noctx // returns at once
			return err
		}
	}
	b.doors = append(b.doors, newDoor(b, kind, inner, given != nil))
	return nil
}

func (b *Backend) serve(d *door) {
	if d.kind == "http" {
		s := b.newHTTPServer()
		b.http = append(b.http, s)
		b.wg.Go(func() { _ = s.Serve(d) }) // returns when the door closes
		return
	}
	s := b.newGRPCServer()
	b.grpc = append(b.grpc, s)
	b.wg.Go(func() { _ = s.Serve(d) }) // as above
	odd := b.newOddServer(s)
	b.http = append(b.http, odd)
	b.wg.Go(func() { _ = odd.Serve(&oddListener{d: d, done: b.stop}) }) // as above
}

// Addr is the address of the gRPC ("grpc") or HTTP ("http") door, empty if there is none.
func (b *Backend) Addr(kind string) string {
	for _, d := range b.doors {
		if d.kind == kind {
			return d.addr.String()
		}
	}
	return ""
}

// GRPCAddr is the address gRPC is served on.
func (b *Backend) GRPCAddr() string { return b.Addr("grpc") }

// HTTPAddr is the address HTTP is served on.
func (b *Backend) HTTPAddr() string { return b.Addr("http") }

// ControlAddr is the address of the control API.
func (b *Backend) ControlAddr() string {
	if b.control == nil {
		return ""
	}
	return b.control.addr
}

// CA is the certificate of the test CA, PEM.
func (b *Backend) CA() []byte { return b.certs.caPEM }

// ClientCertificate is a certificate of the test CA for clients, with its key, PEM.
func (b *Backend) ClientCertificate() (cert, key []byte) {
	return b.certs.clientCert, b.certs.clientKey
}

func (b *Backend) stopped() bool {
	select {
	case <-b.stop:
		return true
	default:
		return false
	}
}

// Stop ends the backend: doors closed, answers under way given 2 s, connections cut, notes with their end line. It may
// be called again and returns the same error.
func (b *Backend) Stop() error {
	b.once.Do(func() { b.err = b.shutdown(true) })
	return b.err
}

// Kill ends the backend as kill -9 would: connections are reset, notes have no end line.
func (b *Backend) Kill() error {
	b.once.Do(func() { b.err = b.shutdown(false) })
	return b.err
}

func (b *Backend) shutdown(graceful bool) error {
	close(b.stop)
	now := time.Now()
	b.rules.mu.Lock()
	if graceful {
		b.endLocked(now, func(*rule) bool { return true })
	}
	b.rules.list = nil
	b.rules.publishLocked()
	b.silent.set(false)
	b.rules.mu.Unlock()
	for _, d := range b.doors {
		_ = d.Close() // it was open, or is gone already
		if !graceful {
			d.cutAll()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range b.grpc {
		wg.Go(func() { stopGRPC(ctx, s) })
	}
	for _, s := range b.http {
		wg.Go(func() {
			if s.Shutdown(ctx) != nil {
				_ = s.Close() // cut what did not end
			}
		})
	}
	wg.Wait()
	for _, d := range b.doors {
		d.cutAll()
	}
	if b.control != nil {
		b.control.stop()
	}
	b.wg.Wait()
	b.mu.Lock()
	err := b.mu.err
	b.mu.Unlock()
	if b.notes != nil {
		if graceful {
			err = errors.Join(err, b.notes.Close())
		} else {
			err = errors.Join(err, b.notes.Abandon())
		}
	}
	return err
}

func stopGRPC(ctx context.Context, s *grpc.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.Stop()
		<-done
	}
}

// atomicCount is a counter that State shows.
type atomicCount struct{ n atomic.Int64 }

func (c *atomicCount) Add(d int64) uint64 { return uint64(c.n.Add(d)) }
func (c *atomicCount) Load() int64        { return c.n.Load() }
