// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Words of the field status.
const (
	wordOK       = "ok"
	wordDegraded = "degraded"
	wordFailing  = "failing"
)

// available is the Collector's body.
type available struct {
	Status  string    `json:"status"`
	UpSince time.Time `json:"upSince"`
	Uptime  string    `json:"uptime"`
}

// answer is our body.
type answer struct {
	Status       string        `json:"status"`
	Since        time.Time     `json:"since,omitzero"`
	Reasons      []string      `json:"reasons,omitempty"`
	Destinations []destination `json:"destinations,omitempty"`
}

type destination struct {
	Pipeline  string  `json:"pipeline"`
	Name      string  `json:"name"`
	State     string  `json:"state"`
	Failed    int64   `json:"failed"`
	Delivered int64   `json:"delivered"`
	Oldest    float64 `json:"oldest_seconds"`
	LastError string  `json:"last_error"`
}

// ServeHTTP answers one probe. The configured path goes before ours, should they be the same; a path of "/" answers
// everything else too, as the Collector's does.
func (c *Check) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, overdue := c.snapshots.Take(r.Context(), extension.SnapshotTime)
	now := time.Now()
	check := c.cfg.CheckCollectorPipeline.Enabled
	switch path := r.URL.Path; {
	case path == c.cfg.Path:
		c.answerV1(w, &h, now, check)
	case path == "/livez":
		c.answerLive(w, &h, now, overdue)
	case path == "/readyz":
		c.answerReady(w, &h, now)
	case path == "/pipelines":
		c.answerPipelines(w, &h, now)
	case c.cfg.Path == "/":
		c.answerV1(w, &h, now, check)
	case path == "/":
		c.answerV1(w, &h, now, false)
	default:
		http.NotFound(w, r)
	}
}

// answerV1 says what the Collector's extension says: started and not stopping; with check, no destination fails.
func (c *Check) answerV1(w http.ResponseWriter, h *extension.Health, now time.Time, check bool) {
	healthy := h.Available()
	if failing := c.failing(); healthy && check {
		for i := range h.Destinations {
			healthy = healthy && !failing.Fails(&h.Destinations[i], now)
		}
	}
	if body := c.cfg.ResponseBody; body != nil {
		text := body.Unhealthy
		if healthy {
			text = body.Healthy
		}
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code(healthy))
		_, _ = io.WriteString(w, text) // who asked has gone
		return
	}
	a := available{Status: "Server not available"}
	if healthy {
		a = available{Status: "Server available", UpSince: h.UpSince.UTC(), Uptime: now.Sub(h.UpSince).String()}
	}
	reply(w, healthy, a)
}

// answerLive is 200 unless a loop is stuck: the only state a restart can heal.
func (c *Check) answerLive(w http.ResponseWriter, h *extension.Health, now time.Time, overdue time.Duration) {
	stuck := h.Stuck(now)
	if overdue > extension.LoopTimeout {
		stuck = append(stuck, fmt.Sprintf("status: no snapshot for %s", overdue.Round(time.Second)))
	}
	a := answer{Status: wordOK, Since: h.UpSince.UTC(), Reasons: stuck}
	if len(stuck) > 0 {
		a.Status = wordFailing
	}
	c.reply(w, len(stuck) == 0, a)
}

// answerReady is 200 while the process should be sent data. No backend changes it.
func (c *Check) answerReady(w http.ResponseWriter, h *extension.Health, now time.Time) {
	ready, reasons := c.readiness.Ready(h, now)
	a := answer{Status: wordOK, Since: h.UpSince.UTC(), Reasons: reasons}
	switch {
	case h.Phase != extension.Running:
		a = answer{Status: h.Phase.String()}
	case !ready:
		a.Status = wordFailing
		a.Since = refusingSince(h).UTC()
	}
	c.reply(w, ready, a)
}

// refusingSince is when the last of the pipelines that refuse began to.
func refusingSince(h *extension.Health) (since time.Time) {
	for _, p := range h.Pipelines {
		if p.RefusingSince.After(since) {
			since = p.RefusingSince
		}
	}
	return since
}

// answerPipelines is 200 while no destination fails, and lists them all.
func (c *Check) answerPipelines(w http.ResponseWriter, h *extension.Health, now time.Time) {
	a := answer{Status: wordOK, Since: h.UpSince.UTC()}
	if len(h.Degraded) > 0 {
		a.Status, a.Reasons = wordDegraded, h.Degraded
	}
	healthy := true
	for i := range h.Destinations {
		d := &h.Destinations[i]
		state, reason := c.state(h, d, now)
		switch state {
		case wordFailing:
			// Failing since the last delivery there was: the longest of them counts.
			if since := lastGood(h, d).UTC(); healthy || since.Before(a.Since) {
				a.Since = since
			}
			healthy = false
			a.Status, a.Reasons = wordFailing, append(a.Reasons, reason)
		case wordDegraded:
			a.Reasons = append(a.Reasons, reason)
			if healthy {
				a.Status = wordDegraded
			}
		}
		a.Destinations = append(a.Destinations, destination{
			Pipeline: d.Pipeline, Name: d.Name, State: state, Failed: d.Failed, Delivered: d.Delivered,
			Oldest:    d.Oldest.Round(time.Millisecond).Seconds(),
			LastError: telemetry.Escape(d.LastError),
		})
	}
	if h.Phase != extension.Running {
		a.Status, a.Since = h.Phase.String(), time.Time{}
	}
	c.reply(w, healthy, a)
}

func (c *Check) state(h *extension.Health, d *extension.DestinationHealth, now time.Time) (state, reason string) {
	f := c.failing()
	quiet := now.Sub(lastGood(h, d)).Round(time.Second)
	switch {
	case f.Fails(d, now):
		return wordFailing, fmt.Sprintf("%s: %d failed attempts, 0 delivered in %s", d.Name, d.Failed, quiet)
	case d.Degraded != "":
		return wordDegraded, d.Name + ": " + telemetry.Escape(d.Degraded)
	case d.Failed > 0 && now.Sub(d.LastFailure) < f.Interval:
		return wordDegraded, fmt.Sprintf("%s: %d failed attempts", d.Name, d.Failed)
	}
	return wordOK, ""
}

// lastGood is the last delivery, or the start if there was none.
func lastGood(h *extension.Health, d *extension.DestinationHealth) time.Time {
	if d.LastDelivery.After(h.UpSince) {
		return d.LastDelivery
	}
	return h.UpSince
}

func (c *Check) reply(w http.ResponseWriter, healthy bool, a answer) {
	if c.implicit {
		a.Reasons, a.Destinations = nil, nil
	}
	reply(w, healthy, a)
}

func reply(w http.ResponseWriter, healthy bool, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "status cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code(healthy))
	_, _ = w.Write(text) // who asked has gone
}

func code(healthy bool) int {
	if healthy {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}
