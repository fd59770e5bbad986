// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// reloadTime bounds one answer to a request for a reload: a trial and what it may be prolonged by.
const reloadTime = 5 * time.Minute

// ReloadBy makes the driver known that changes the configuration; before anything starts.
func (a *App) ReloadBy(d *reload.Driver) { a.driver = d }

// Announce says that the process is going to stop: it is not ready any more, and clients that are leaving are not waited
// for.
func (a *App) Announce() {
	a.setPhase(extension.Stopping)
	a.announce.Do(func() { close(a.ending) })
}

// ReloadRequest is what the command reload asks for.
type ReloadRequest struct {
	Wait           bool    `json:"wait"`
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"`
	Expect         string  `json:"expect,omitempty"`
	Force          bool    `json:"force,omitempty"`
}

// ReloadAnswer is what came of it.
type ReloadAnswer struct {
	Outcome    string `json:"outcome"` // empty = not known yet
	Generation uint64 `json:"generation,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Evidence   string `json:"evidence,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Text       string `json:"text,omitempty"`
}

func (a *App) adminReload(ctx context.Context, r *admin.Request) (any, error) {
	var req ReloadRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if a.driver == nil {
		return nil, admin.Refuse(http.StatusConflict, "this process does not reload")
	}
	if !req.Wait {
		a.driver.Notify("reload")
		return ReloadAnswer{Text: "asked for; holdfast status shows what comes of it"}, nil
	}
	if limit := time.Duration(req.TimeoutSeconds * float64(time.Second)); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	res := a.driver.Request(ctx, reload.Ask{Source: "reload", Force: req.Force, Expect: req.Expect})
	return ReloadAnswer{
		Outcome: string(res.Outcome), Generation: uint64(res.Generation), SHA256: res.Hash, Evidence: string(res.Evidence),
		Reason: string(res.Reason), Text: res.Text,
	}, nil
}

// adminHistory is the list of attempts, newest first.
func (a *App) adminHistory(context.Context, *admin.Request) (any, error) {
	if a.driver == nil {
		return []reload.Entry{}, nil
	}
	return a.driver.Snapshot().Attempts, nil
}

// addConfig fills in what the status says of configurations.
func (a *App) addConfig(s *status.Status) {
	if a.driver == nil {
		return
	}
	x, c := a.driver.Snapshot(), &s.Config
	c.State, c.Drift, c.Store, c.TrialSeconds = x.State, x.Drift, x.Store, x.TrialLeft.Seconds()
	c.Running.Generation, c.Running.Evidence = uint64(x.Running.Generation), string(x.Running.Evidence)
	c.Good = status.Generation{SHA256: x.Good.Hash, Generation: uint64(x.Good.Generation), Evidence: string(x.Good.Evidence)}
	c.Offered = status.Generation{SHA256: x.Offered.Hash, Generation: uint64(x.Offered.Generation)}
	for _, e := range x.Attempts {
		c.Attempts = append(c.Attempts, status.Attempt{
			Generation: uint64(e.Generation), Time: e.Time.UTC(), SHA256: e.Hash, Source: e.Source, State: string(e.State),
			Reason: string(e.Reason), Text: e.Text,
		})
	}
	switch {
	case x.Alarm != "":
		s.Degraded = append(s.Degraded, "the configuration: "+x.Alarm)
	case x.Drift && len(x.Attempts) > 0:
		s.Degraded = append(s.Degraded, "the configuration that runs is not the one that is offered: "+firstLine(x.Attempts[0].Text))
	case x.Drift:
		s.Degraded = append(s.Degraded, "the configuration that runs is not the one that is offered")
	}
	if x.Unsaved || x.StoreErr != "" {
		s.Degraded = append(s.Degraded, "the state directory cannot be written: a restart would not know the good configuration")
	}
}
