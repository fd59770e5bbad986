// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/evidence"
)

func TestListenersAreCheckedOnceASecondAndCountTheirFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var deaf, mute atomic.Bool
		dial := func(ctx context.Context, network, address string) error {
			calls.Add(1)
			switch {
			case address == "127.0.0.1:2" && deaf.Load():
				return errors.New("connection refused")
			case address == "127.0.0.1:2" && mute.Load():
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		one := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
		two := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}
		c := evidence.Watch(func() []net.Addr { return []net.Addr{one, two} }, dial)
		failures := func(want int) {
			t.Helper()
			synctest.Wait()
			s := c.Sample()
			if len(s) != 2 || s[0].Address != "127.0.0.1:1" || s[0].FailedChecks != 0 || s[1].FailedChecks != want {
				t.Errorf("%+v, want %d failures of the second", s, want)
			}
		}
		time.Sleep(10 * time.Second)
		failures(0)
		if n := calls.Load(); n != 20 {
			t.Errorf("%d connections in ten seconds to two addresses", n)
		}
		deaf.Store(true)
		time.Sleep(3 * time.Second)
		failures(3)
		deaf.Store(false)
		time.Sleep(time.Second)
		failures(0)
		mute.Store(true)
		time.Sleep(4 * time.Second)
		failures(3)
		c.Stop()
		c.Stop()
		var none *evidence.Listeners
		if none.Sample() != nil {
			t.Error("checks that were never begun know something")
		}
	})
}

func TestKnockingFindsAListenerOnAllAddressesAndMissesAClosedOne(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err) // no IPv6 here
			continue
		}
		at := ln.Addr()
		if err := evidence.Knock(t.Context(), at.Network(), at.String()); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		if evidence.Knock(t.Context(), at.Network(), at.String()) == nil {
			t.Errorf("%s: nobody listens, and it answers", at)
		}
	}
}
