// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// waiting is a connector without a queue, whose levels have one slot each.
func waiting(t *testing.T, levels ...string) *connector {
	t.Helper()
	return over(t, func(_ *failover.Config, p *plan.Pipeline) {
		d := &p.Destinations[0]
		d.Wait = true
		for i := range d.Levels {
			d.Levels[i].Workers = 1
		}
	}, levels...)
}

// offer sends one request and returns its answer.
func (c *connector) offer(ctx context.Context, body string) (receiver.Result, error) {
	return c.Entry().Accept(ctx, &otlp.Payload{Signal: otlp.Traces, Items: 2, Size: uint32(len(body)), Body: []byte(body)})
}

func TestAClientThatWaitsIsAnsweredByTheNextLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := waiting(t, "primary", "secondary")
		answers := func(body string) error {
			_, err := c.offer(t.Context(), body)
			synctest.Wait()
			return err
		}
		if err := answers("a"); err != nil {
			t.Fatal(err)
		}
		c.ends["primary"].set(exporter.Retry)
		for i := range 10 {
			if err := answers(fmt.Sprint("b", i)); err != nil {
				t.Fatal(err)
			}
		}
		c.has(map[string]int{"primary": 1, "secondary": 10})
		c.ends["secondary"].set(exporter.Rejected)
		var r *receiver.Refusal
		if err := answers("c"); !errors.As(err, &r) || r.Code != receiver.Denied && r.Code != receiver.Unavailable {
			t.Errorf("refused by one, the other is not up: %v", err)
		}
		c.ends["secondary"].set(exporter.Ambiguous)
		for range 5 {
			if err := answers("d"); !errors.As(err, &r) || r.Code != receiver.Unavailable || r.After < time.Second {
				t.Errorf("with no level up: %v", err)
			}
			time.Sleep(time.Second)
		}
		c.ends["primary"].set(0)
		for i := 0; answers(fmt.Sprint("e", i)) != nil; i++ {
			if time.Sleep(time.Second); i > 60 {
				t.Fatal("a minute after the primary came back nothing is taken")
			}
		}
		if n := c.Show()[0].Route.InHand; n.InFlight+n.Waiting+n.Moving+n.Held != 0 {
			t.Errorf("in hand %+v, and nobody waits", n)
		}
		c.stop(time.Second)
	})
}

func TestAClientThatLeavesHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := waiting(t, "primary")
		c.ends["primary"].wait = 3 * time.Second
		results := make(chan error, 20)
		for i := range 20 { // one is in flight, nineteen wait for the slot; those with a short deadline leave
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+i%2*100)*time.Second)
				defer cancel()
				_, err := c.offer(ctx, fmt.Sprint(i))
				results <- err
			}()
		}
		served, left := 0, 0
		for range 20 {
			switch err := <-results; {
			case err == nil:
				served++
			case errors.Is(err, context.DeadlineExceeded):
				left++
			default:
				t.Error(err)
			}
		}
		if served < 10 || served+left != 20 {
			t.Errorf("%d served, %d left", served, left)
		}
		if _, err := c.offer(t.Context(), "afterwards"); err != nil {
			t.Errorf("the slot is not free: %v", err)
		}
		if b := c.Books()[0].Read(); b.Accepted != uint64(2*(served+1)) || b.Delivered != b.Accepted {
			t.Errorf("books %+v after %d deliveries", b, served+1)
		}
		c.stop(time.Second)
	})
}
