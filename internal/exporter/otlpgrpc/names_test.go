// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"
)

// resolved notes what a resolver says; the rest of the interface is not called.
type resolved struct {
	resolver.ClientConn
	states chan []string
	errs   chan error
}

func (r *resolved) UpdateState(s resolver.State) error {
	var out []string
	for _, a := range s.Addresses {
		out = append(out, a.Addr)
	}
	r.states <- out
	if len(out) == 0 {
		return errors.New("no addresses")
	}
	return nil
}

func (r *resolved) ReportError(err error) { r.errs <- err }

func target(s string) resolver.Target {
	return resolver.Target{URL: url.URL{Scheme: "dns", Path: "/" + s}}
}

// Fault: B14.
func TestANameIsLookedUpAgainWhenAskedAndUntilItIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan func() ([]string, error), 8)
		n := &names{func(context.Context, string) ([]string, error) { return (<-answers)() }}
		cc := &resolved{states: make(chan []string, 8), errs: make(chan error, 8)}
		gone := errors.New("no such host")
		for range 4 {
			answers <- func() ([]string, error) { return nil, gone }
		}
		began := time.Now()
		r, err := n.Build(target("backend.test:4317"), cc, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for range 4 {
			if err := <-cc.errs; !errors.Is(err, gone) {
				t.Errorf("error %v", err)
			}
		}
		answers <- func() ([]string, error) { return []string{"10.0.0.1", "::1"}, nil }
		if s := <-cc.states; !slices.Equal(s, []string{"10.0.0.1:4317", "[::1]:4317"}) {
			t.Errorf("addresses %q", s)
		}
		if took := time.Since(began); took != 12*time.Second { // 1, 2, 4, 5
			t.Errorf("found after %v", took)
		}
		// Asked ten times at once: one look-up, not earlier than a second after the last.
		began = time.Now()
		for range 10 {
			r.ResolveNow(resolver.ResolveNowOptions{})
		}
		answers <- func() ([]string, error) { return []string{"10.0.0.2"}, nil }
		if s := <-cc.states; !slices.Equal(s, []string{"10.0.0.2:4317"}) {
			t.Errorf("addresses %q", s)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("looked up after %v", took)
		}
		time.Sleep(time.Hour) // virtual: nobody asks, nobody looks
		synctest.Wait()
		if len(cc.states) != 0 {
			t.Error("looked up without being asked")
		}
	})
}

func TestAddressesAndNamesWithoutPort(t *testing.T) {
	for written, want := range map[string]string{
		"127.0.0.1:4317": "127.0.0.1:4317", "[::1]:4317": "[::1]:4317", "backend.test": "10.0.0.1:443", ":4317": "10.0.0.1:4317",
	} {
		n := &names{func(context.Context, string) ([]string, error) { return []string{"10.0.0.1"}, nil }}
		cc := &resolved{states: make(chan []string, 1)}
		r, err := n.Build(target(written), cc, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if s := <-cc.states; !slices.Equal(s, []string{want}) {
			t.Errorf("%s: addresses %q", written, s)
		}
		r.Close()
	}
}
