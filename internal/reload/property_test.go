// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// walks is how many random lives are played; HOLDFAST_RELOAD_WALKS asks for more, HOLDFAST_RELOAD_SEED for one.
const walks = 120

// TestRandomLivesKeepThePromises plays random events in random worlds: what runs was prepared; nothing that can fail
// follows a switch; good changes only at a commit; a rollback to what is warm loads and builds nothing; every request
// gets exactly one result; at most three generations are alive; and where nobody asks, nothing begins.
func TestRandomLivesKeepThePromises(t *testing.T) {
	first, n := rand.Uint64N(1<<32), uint64(walks)
	if s := os.Getenv("HOLDFAST_RELOAD_SEED"); s != "" {
		first, n = seedOf(t, s), 1
	} else if s := os.Getenv("HOLDFAST_RELOAD_WALKS"); s != "" {
		n = seedOf(t, s)
	}
	sums := map[string]int{}
	for seed := first; seed < first+n; seed++ {
		w := newWalk(t, seed)
		w.live()
		for k, v := range w.sums {
			sums[k] += v
		}
		if len(w.broken) > 0 {
			for _, b := range w.broken {
				t.Errorf("%s", b)
			}
			for _, line := range w.lines[max(0, len(w.lines)-60):] {
				t.Log(line())
			}
			t.Fatalf("seed %d (HOLDFAST_RELOAD_SEED=%d)", seed, seed)
		}
	}
	if n < walks {
		return
	}
	for _, needed := range []string{"committed", "unchanged", "rejected", "rolled_back", "superseded", "exit"} {
		if sums[needed] == 0 {
			t.Errorf("no life of %d had the outcome %q: %v (seed %d)", n, needed, sums, first)
		}
	}
	t.Logf("seed %d: %v", first, sums)
}

func seedOf(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// walk is one random life, over several processes.
type walk struct {
	*house
	r        *rand.Rand
	names    []string
	sums     map[string]int
	lines    []func() string
	warm     bool // something was committed by this process, so a way back is warm
	building int  // loads and prepares since the last symptom
	good     reload.Generation
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{house: newHouse(t), r: rand.New(rand.NewPCG(seed, 1)), sums: map[string]int{}}
	down := w.r.IntN(4) == 0 // the backend is down already
	does := func(good string) string {
		if down {
			return "refuses"
		}
		return good
	}
	trial := time.Minute
	if w.r.IntN(5) == 0 {
		trial = time.Duration(w.r.IntN(40)) * time.Second
	}
	settings := reload.Settings{Trial: trial, Preflight: w.r.IntN(2) == 0, BadBootFails: w.r.IntN(6) == 0}
	for _, c := range []*config{
		{name: "A", senders: []script{{id: "otlp", does: does("delivers")}}},
		{name: "B", senders: []script{{id: "otlp", changed: true, does: does("delivers"), probe: "good"}}},
		{name: "V", senders: []script{{id: "otlp", changed: true, does: does("quiet")}}},
		{name: "invalid", loadErr: "no"},
		{name: "taken", prepareErr: "address already in use"},
		{name: "wrong", senders: []script{{id: "otlp", changed: true, does: "misconfigured"}}},
		{name: "probed", senders: []script{{id: "otlp", changed: true, does: "misconfigured", probe: "bad"}}},
		{name: "mute", senders: []script{{id: "otlp", changed: true, does: "strikes"}}},
		{name: "panics", senders: []script{{id: "otlp", does: does("delivers")}}, panics: 3 * time.Second},
		{name: "deaf", senders: []script{{id: "otlp", does: does("delivers")}}, listener: true},
	} {
		c.settings = settings
		w.configs[c.name] = c
		w.names = append(w.names, c.name)
	}
	w.told, w.slow = w.hear, true
	w.late = func() bool { return w.r.IntN(2) == 0 }
	w.offered = w.names[w.r.IntN(3)]
	return w
}

func (w *walk) log(format string, args ...any) {
	now := w.now
	w.lines = append(w.lines, func() string {
		return fmt.Sprintf("%.3f ", now.Sub(start).Seconds()) + fmt.Sprintf(format, args...)
	})
}

func (w *walk) hear(a reload.Action) {
	w.log("    %+v", a)
	switch a.Kind {
	case reload.ActionLoad, reload.ActionPrepare:
		w.building++
	case reload.ActionGiveUp:
		w.sums["exit"]++
	case reload.ActionStoreGood:
		if in := w.instances[a.Generation]; in == nil || a.Generation != w.running && !in.committed {
			w.breaks("generation %d becomes good and neither runs nor was committed", a.Generation)
		}
		w.good = a.Generation
	case reload.ActionTell:
		w.sums[string(a.Result.Outcome)]++
		w.outcome(&a)
	}
}

func (w *walk) outcome(a *reload.Action) {
	g := a.Record.Generation
	switch a.Result.Outcome {
	case reload.Committed:
		w.warm = true
		if w.good != g {
			w.breaks("generation %d is committed and was not stored", g)
		}
	case reload.RolledBack:
		was, now := w.instances[g], w.instances[w.running]
		if was != nil && (now == nil || w.warm && !now.switched.Before(was.switched)) {
			w.breaks("generation %d was rolled back to %d, which was built for it", g, w.running)
		}
	}
}

// live plays some events, and then waits for the end of everything.
func (w *walk) live() {
	w.start()
	for range 10 + w.r.IntN(30) {
		w.event()
		if w.exited {
			w.offered, w.unread, w.goodGone = "A", false, false
			w.start()
		}
	}
	w.unread, w.storeFails = false, false
	w.settle()
	w.settle()
	if len(w.open) > 0 {
		w.breaks("requests without a result: %v", w.open)
	}
	loadings := w.loadings
	w.at(w.now.Add(20 * time.Minute))
	if w.loadings != loadings || w.job != nil {
		w.breaks("something began although nobody asked")
	}
	if v := w.s.Snapshot(w.now); !w.exited && (v.State != "idle" || v.Unsaved) {
		w.breaks("in the end it is %+v", v)
	}
}

func (w *walk) start() {
	w.log("boot with %s", w.offered)
	w.warm = false
	w.boot()
	if w.r.IntN(4) > 0 {
		w.at(w.now.Add(time.Duration(w.r.IntN(30)) * time.Second))
		w.warm = w.warm || w.s.Snapshot(w.now).State == "idle"
	}
}

func (w *walk) event() {
	w.warm = w.warm || w.s.Snapshot(w.now).State == "idle"
	switch n := w.r.IntN(20); {
	case n < 6:
		w.offered = w.names[w.r.IntN(len(w.names))]
		w.log("offer %s", w.offered)
		fallthrough
	case n < 9:
		times := 1
		if w.r.IntN(6) == 0 {
			times = 1 + w.r.IntN(20)
		}
		for range times {
			w.log("request")
			w.request(reload.Request{Force: w.r.IntN(5) == 0, Begun: w.r.IntN(3) == 0})
		}
	case n < 10 && w.r.IntN(2) == 0:
		w.log("rollback")
		to := reload.Generation(0)
		if stored := w.disk.stored; len(stored) > 0 && w.r.IntN(2) == 0 {
			to = stored[w.r.IntN(len(stored))].Generation
		}
		w.request(reload.Request{Back: true, To: to, Force: w.r.IntN(3) == 0, Begun: w.r.IntN(2) == 0})
	case n < 10:
		w.log("request to be confirmed")
		w.request(reload.Request{Force: w.r.IntN(2) == 0, Begun: w.r.IntN(2) == 0, Confirm: time.Duration(1+w.r.IntN(100)) * time.Second})
	case n < 11:
		w.confirm("")
	case n < 16:
		spans := []time.Duration{50 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 20 * time.Second, 90 * time.Second}
		d := time.Duration(w.r.Int64N(int64(spans[w.r.IntN(len(spans))])))
		w.at(w.now.Add(d))
	case n < 17:
		w.storeFails = !w.storeFails
	case n < 18:
		w.prepareTakes = []time.Duration{0, 300 * time.Millisecond, 5 * time.Second, 40 * time.Second}[w.r.IntN(4)]
		w.unread = w.r.IntN(5) == 0
		w.goodGone = w.r.IntN(3) == 0
	case n < 19:
		w.log("kill")
		w.kill()
		w.start()
	default:
		w.stopped()
	}
}

// stopped: whatever is under way, everybody gets a result, nothing is left half built, and nothing begins.
func (w *walk) stopped() {
	w.log("stop")
	w.tell(reload.Event{Kind: reload.EventStop})
	w.request(reload.Request{})
	w.at(w.now.Add(time.Second))
	if state := w.s.Snapshot(w.now).State; state != "stopped" || len(w.open) > 0 {
		w.breaks("after a stop it is %s, %d wait", state, len(w.open))
	}
	var left []reload.Generation
	for g, in := range w.instances {
		if !in.retired && g != w.running {
			left = append(left, g)
		}
	}
	if slices.Sort(left); len(left) > 0 {
		w.breaks("after a stop these are left: %v", left)
	}
	w.start()
}
