// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
	"google.golang.org/grpc/codes"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
)

// Fault: B3.
func TestASilentConnectionIsReplacedAfterTwoTimeouts(t *testing.T) {
	hold := make(chan struct{})
	var conns atomic.Int32
	addr := h2server(t, func(s *h2stream) {
		if s.id == 1 {
			conns.Add(1)
		}
		if conns.Load() == 1 {
			<-hold // from here on nothing is read and nothing is said
			return
		}
		s.readRequest()
		s.ok()
	})
	t.Cleanup(func() { close(hold) })
	e := start(t, addr, func(c *otlpgrpc.Config) { c.Timeout = 150 * time.Millisecond })
	ambiguous := exporter.Verdict{Kind: exporter.Ambiguous}
	check(t, "first", send(t, e, request([]byte("x"))), ambiguous)
	check(t, "second", send(t, e, request([]byte("x"))), ambiguous)
	eventually(t, e, exporter.Delivered)
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// Fault: B5.
func TestASlowConnectionThatSpeaksIsKept(t *testing.T) {
	var conns atomic.Int32
	addr := h2server(t, func(s *h2stream) {
		if s.id == 1 {
			conns.Add(1)
		}
		s.readRequest()
		_ = s.framer.WritePing(false, [8]byte{1}) // a sign of life, and no answer
	})
	e := start(t, addr, func(c *otlpgrpc.Config) { c.Timeout = 100 * time.Millisecond })
	for range 6 {
		check(t, "slow", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Ambiguous})
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestTheBytesAreTheCallersAgainAfterADeadline(t *testing.T) {
	hold := make(chan struct{})
	addr := h2server(t, func(*h2stream) { <-hold })
	t.Cleanup(func() { close(hold) })
	for _, compression := range []string{"none", "gzip"} {
		e := start(t, addr, func(c *otlpgrpc.Config) {
			c.Timeout = 50 * time.Millisecond
			_ = c.Client.Compression.UnmarshalText([]byte(compression))
		})
		buf := make([]byte, 1<<20)
		for range 3 {
			if v := send(t, e, request(buf)); v.Kind == exporter.Delivered {
				t.Errorf("verdict %+v", v)
			}
			clear(buf) // the race detector sees a library that still reads
		}
	}
}

// Fault: B14, B21.
func TestADeadAddressBesideALiveOneIsNotUsed(t *testing.T) {
	// localhost has two addresses on most machines; one of them listens.
	addrs, err := net.DefaultResolver.LookupHost(context.Background(), "localhost")
	if err != nil || len(addrs) < 2 {
		t.Skipf("localhost is %q", addrs)
	}
	b := newBackend(t, "")
	_, port, _ := net.SplitHostPort(b.addr)
	e := start(t, "localhost:"+port, nil)
	for range 20 {
		check(t, "half dead", send(t, e, request([]byte("x"))), exporter.Deliver())
	}
}

func TestUnixSocketsAndNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, lis, "")
	b := newBackend(t, "")
	_, port, _ := net.SplitHostPort(b.addr)
	abstract := "holdfast-" + filepath.Base(filepath.Dir(path)) + b.addr
	if lis, err = net.Listen("unix", "@"+abstract); err != nil {
		t.Fatal(err)
	}
	serve(t, lis, "")
	for _, endpoint := range []string{"unix://" + path, "unix-abstract:" + abstract, "dns:///localhost:" + port, "http://127.0.0.1:" + port, "passthrough:///" + b.addr} {
		check(t, endpoint, send(t, start(t, endpoint, nil), request([]byte("x"))), exporter.Deliver())
	}
}

func TestNoErrorHoldsACredential(t *testing.T) {
	const canary = "c4n4ry"
	b := newBackend(t, "")
	b.reply(fails(codes.Unauthenticated, "no"))
	for _, addr := range []string{b.addr, freeAddr(t)} {
		for _, value := range []string{"Bearer " + canary, canary + "\n"} {
			e := start(t, addr, func(c *otlpgrpc.Config) {
				c.Client.Headers = configopaque.MapList{{Name: "authorization", Value: configopaque.String(value)}}
			})
			v := send(t, e, request([]byte("x")))
			if v.Err == nil || strings.Contains(v.Err.Error(), canary) {
				t.Errorf("error %v", v.Err)
			}
		}
	}
}
