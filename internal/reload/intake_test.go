// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func TestHashIsWhatTheSpecificationSays(t *testing.T) {
	one := []reload.Text{{URI: "a.yaml", Text: "x: 1\n"}}
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	if got, want := reload.HashOf(one), sum("x: 1\n"); got != want {
		t.Errorf("one source: %s, sha256sum says %s", got, want)
	}
	two := append(one, reload.Text{URI: "b.yaml", Text: "y: 2\n"})
	want := sum("a.yaml\x00" + sum("x: 1\n") + "\n" + "b.yaml\x00" + sum("y: 2\n") + "\n")
	if got := reload.HashOf(two); got != want {
		t.Errorf("two sources: %s, want %s", got, want)
	}
}

// readings answers readings one after the other; the last answer stays.
type readings struct {
	*works
	answers []string // "" = the file is not there
	n       int
}

func (r *readings) Read(context.Context) ([]reload.Text, error) {
	text := r.answers[min(r.n, len(r.answers)-1)]
	r.n++
	if text == "" {
		return nil, errors.New("no such file")
	}
	return []reload.Text{{URI: uris[0], Text: text}}, nil
}

func TestTextIsReadUntilTwoReadingsAgree(t *testing.T) {
	for name, c := range map[string]struct {
		answers []string
		want    string
		after   time.Duration
		reason  reload.Reason
	}{
		"at once":              {[]string{"two"}, "two", 200 * time.Millisecond, ""},
		"while it is written":  {[]string{"t", "tw", "two"}, "two", 600 * time.Millisecond, ""},
		"while it is replaced": {[]string{"two", "", "three"}, "three", 600 * time.Millisecond, ""},
		"gone":                 {[]string{""}, "", 200 * time.Millisecond, reload.ReasonUnread},
		"now and then gone":    {[]string{"", "x", "", "x", "", "y", "y"}, "y", 1200 * time.Millisecond, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlant(t, vfs.NewMem(0), "unused")
				r := &readings{works: p.works, answers: c.answers}
				set := p.settings
				set.Reader = r
				p.Driver = reload.New(set)
				began := time.Now()
				err := p.Driver.Start(context.Background())
				if took := time.Since(began); took != c.after {
					t.Errorf("it took %s, want %s", took, c.after)
				}
				if c.want == "" {
					if err == nil || p.value("holdfast_config_reloads_total", "result", "rejected", "reason", string(c.reason)) != 1 {
						t.Errorf("start: %v", err)
					}
					return
				}
				if err != nil || p.runs() != c.want {
					t.Errorf("%v; %q runs, want %q", err, p.runs(), c.want)
				}
				p.stop()
			})
		})
	}
}

// stillReadings can tell whether anybody writes.
type stillReadings struct {
	readings
	still bool
}

func (r *stillReadings) Still(time.Duration) bool { return r.still }

// Whoever starts does not wait for a second reading of what was left alone; a request for a reload does, since it comes
// when somebody has written.
func TestWhatWasLeftAloneIsReadOnceAtTheStart(t *testing.T) {
	for _, still := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlant(t, vfs.NewMem(0), "unused")
			r := &stillReadings{readings{works: p.works, answers: []string{"two"}}, still}
			set := p.settings
			set.Reader = r
			p.Driver = reload.New(set)
			began := time.Now()
			check(t, p.Driver.Start(context.Background()))
			want, readings := 200*time.Millisecond, 2
			if still {
				want, readings = 0, 1
			}
			if took := time.Since(began); took != want || r.n != readings || p.runs() != "two" {
				t.Errorf("still %v: it took %s and %d readings; %q runs", still, took, r.n, p.runs())
			}
			if got := request(p); got.Text != "" || r.n != readings+2 {
				t.Errorf("still %v: a request is %s after %d readings", still, got.Outcome, r.n-readings)
			}
			p.stop()
		})
	}
}

func TestStartThatIsStoppedSaysSoAndLeavesNothing(t *testing.T) {
	for _, after := range []time.Duration{0, 100 * time.Millisecond, 250 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlant(t, vfs.NewMem(0), "slow")
			ctx, cancel := context.WithTimeout(context.Background(), after)
			defer cancel()
			if err := p.Driver.Start(ctx); err == nil {
				t.Error("it says that it has started")
			}
			p.stop()
			if n := p.says("Config rejected"); n > 1 || after < 200*time.Millisecond && n > 0 {
				t.Errorf("%d rejections of what nobody has read", n)
			}
			s := openStore(t, p.disk) // it is not locked any more
			if a, err := s.Attempt(); a != nil || err != nil {
				t.Errorf("an attempt is left: %+v, %v", a, err)
			}
			check(t, s.Close())
		})
	}
}
