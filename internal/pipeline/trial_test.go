// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

func refuses(int, *exporter.Request) exporter.Verdict {
	return exporter.Verdict{Kind: exporter.Rejected, Err: errors.New("no such field")}
}

// onTrial is a pipeline whose exporter is on trial and rejects what it gets, three records.
func onTrial(t *testing.T, wait time.Duration) (*house, *backend) {
	b := &backend{answer: refuses, wait: wait}
	h := prepare(t, plan.Pipeline{Storage: "file_storage", Destinations: []plan.Destination{dest("otlp")}},
		map[string]*backend{"otlp": b})
	h.OnTrial(func(id string) bool { return id == "otlp" })
	h.Start()
	for _, body := range []string{"a", "b", "c"} {
		h.put(body, 1)
		synctest.Wait() // each travels alone, as far as there are slots
	}
	return h, b
}

func TestWhatASenderOnTrialRejectsWaitsForTheEndOfTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, b := onTrial(t, 0)
		time.Sleep(time.Second)
		asked := len(b.attempts) // more than three, if a batch was taken apart
		time.Sleep(3 * time.Minute)
		if c := h.books("otlp"); c.Rejected != 0 || c.Queued != 3 || asked < 3 || len(b.attempts) != asked {
			t.Errorf("on trial: books %+v after %d and %d attempts", c, asked, len(b.attempts))
		}
		h.OnTrial(func(string) bool { return false }) // committed
		time.Sleep(time.Second)
		if c := h.books("otlp"); c.Rejected != 3 || c.Queued != 0 {
			t.Errorf("committed: books %+v", c)
		}
		h.put("d", 1)
		time.Sleep(time.Second)
		if c := h.books("otlp"); c.Rejected != 4 {
			t.Errorf("afterwards: books %+v", c)
		}
		h.stop(time.Second)
	})
}

func TestWhatASenderOnTrialRejectedIsDeliveredByTheOneBefore(t *testing.T) {
	for name, wait := range map[string]time.Duration{"at once": 0, "while it is undone": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, b := onTrial(t, wait)
				time.Sleep(time.Second)
				set, good := h.Settings(), &backend{}
				set.Exporters = map[string]exporter.Exporter{"otlp": good}
				old, err := pipeline.New(set)
				if err != nil {
					t.Fatal(err)
				}
				old.Attach()
				over := h.Halt(10 * time.Second) // rolled back
				old.Start()
				<-over
				time.Sleep(10 * time.Second) // a batch waits for company
				if c := h.books("otlp"); c.Delivered != 3 || c.Rejected != 0 || len(b.attempts) == 0 {
					t.Errorf("books %+v after %d attempts of the new one", c, len(b.attempts))
				}
				h.Stop(t.Context())
				h.Pipeline = old
				h.stop(time.Second)
			})
		})
	}
}

// Only who is on trial is doubted: the level below is as good as ever, and so is its word.
func TestARejectionOfASenderThatIsNotOnTrialIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: refuses}
		d, other := dest("otlp"), dest("other")
		h := prepare(t, plan.Pipeline{Destinations: []plan.Destination{d, other}}, map[string]*backend{"otlp": b, "other": b})
		h.OnTrial(func(id string) bool { return id == "other" })
		h.Start()
		h.put("a", 1)
		time.Sleep(time.Minute)
		counts := map[string]queue.Counts{"otlp": h.books("otlp"), "other": h.books("other")}
		if counts["otlp"].Rejected != 1 || counts["other"].Queued != 1 {
			t.Errorf("books %+v", counts)
		}
		h.stop(time.Second)
		if c := h.books("other"); c.Queued != 0 {
			t.Errorf("after the stop: books %+v", c)
		}
	})
}
