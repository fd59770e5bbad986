// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package child_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
)

// TestMain is also the program that is started.
func TestMain(m *testing.M) {
	switch os.Getenv("HOLDFAST_CHILD_TEST") {
	case "":
		os.Exit(m.Run())
	case "ready":
		os.Stderr.WriteString("2026-11-21T10:00:00.000Z\tinfo\tEverything is ready. Begin running and processing data.\n")
		<-time.After(time.Minute) // until it is killed
	default:
		os.Stderr.WriteString("the port is taken\n")
	}
}

func start(t *testing.T, how string) (*child.Child, error) {
	t.Helper()
	return child.Start(t.Context(), "/proc/self/exe", nil, []string{"HOLDFAST_CHILD_TEST=" + how}, io.Discard, func(child.Line) {}, nil)
}

func TestAChildIsReadyWhenItSaysSo(t *testing.T) {
	c, err := start(t, "ready")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Running() {
		t.Error("it runs")
	}
	c.Kill()
	c.Kill()
	if c.Running() {
		t.Error("it was killed")
	}
}

func TestAChildThatEndsAtOnceIsShownWithItsLastWords(t *testing.T) {
	if _, err := start(t, "broken"); err == nil || !strings.Contains(err.Error(), "ended before it was ready") ||
		!strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("%v", err)
	}
}

func TestAChildOutlivesThreadsThatEnd(t *testing.T) {
	var all []*child.Child
	for range 4 {
		c, err := start(t, "ready")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Kill()
		all = append(all, c)
	}
	var threads sync.WaitGroup
	for range 50 { // whoever ends locked takes the thread along
		threads.Go(runtime.LockOSThread)
	}
	threads.Wait()
	select {
	case <-all[0].Done:
	case <-all[1].Done:
	case <-all[2].Done:
	case <-all[3].Done:
	case <-time.After(200 * time.Millisecond):
		return
	}
	t.Error("a child was killed with a thread")
}

func TestAnAddressIsOfOneRoomOnly(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		host, guard, err := child.OwnHost()
		if err != nil {
			t.Fatal(err)
		}
		defer guard.Close() //nolint:errcheck // a listener
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() || seen[host] {
			t.Errorf("%s, %t", host, seen[host])
		}
		seen[host] = true
	}
}

func TestSeriesOfANameAreAddedUpAndOthersAreNot(t *testing.T) {
	const text = "a_total{x=\"1\"} 3\na_total{x=\"2\"} 4e0\na_total 1\na_total_more 9\n# a_total 7\na_total\nb 2\n"
	if got := child.Sum([]byte(text), "a_total"); got != 8 {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2026-11-21T10:00:00.000Z\twarn\tx.go:1\tFailover: level is down\t{\"signal\":\"logs\"}")
	f.Add("panic: runtime error")
	f.Fuzz(func(t *testing.T, text string) {
		if l, ok := child.Parse(text); ok {
			_ = l.Field("signal")
		}
	})
}
