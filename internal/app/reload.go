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
	// ConfirmSeconds is how long the trial waits for somebody to confirm it, and is undone then; 0 = an ordinary trial.
	ConfirmSeconds float64 `json:"confirm_seconds,omitempty"`
}

// ask is what a request wants. Who does not wait for the end of a trial hears when it begins.
func (r *ReloadRequest) ask(source string) (reload.Ask, error) {
	confirm := time.Duration(r.ConfirmSeconds * float64(time.Second))
	if confirm != 0 && (confirm < reload.MinConfirm || confirm > reload.MaxConfirm) {
		return reload.Ask{}, admin.Refuse(http.StatusBadRequest, "confirm %s: between %s and %s are possible", confirm,
			reload.MinConfirm, reload.MaxConfirm)
	}
	return reload.Ask{Source: source, Force: r.Force, Expect: r.Expect, Confirm: confirm, Begun: !r.Wait}, nil
}

// plain says that nobody wants to know anything of it.
func (r *ReloadRequest) plain() bool {
	return !r.Wait && !r.Force && r.Expect == "" && r.ConfirmSeconds == 0
}

// RollbackRequest is what the command rollback asks for.
type RollbackRequest struct {
	ReloadRequest
	To uint64 `json:"to,omitempty"` // a stored generation; 0 = what ran before
}

// ConfirmRequest is what the command confirm asks for.
type ConfirmRequest struct {
	Expect string `json:"expect,omitempty"` // first digits of the hash that is meant
}

// ReloadAnswer is what came of it.
type ReloadAnswer struct {
	Outcome    string `json:"outcome"` // empty = not known yet
	Generation uint64 `json:"generation,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Evidence   string `json:"evidence,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Text       string `json:"text,omitempty"`
	// ConfirmUntil is when a trial is undone unless somebody confirms it; zero = nobody has to.
	ConfirmUntil time.Time `json:"confirm_until,omitzero"`
}

func answerOf(res *reload.Result) ReloadAnswer {
	return ReloadAnswer{
		Outcome: string(res.Outcome), Generation: uint64(res.Generation), SHA256: res.Hash, Evidence: string(res.Evidence),
		Reason: string(res.Reason), Text: res.Text, ConfirmUntil: res.Until,
	}
}

func (a *App) adminReload(ctx context.Context, r *admin.Request) (any, error) {
	var req ReloadRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if a.driver == nil {
		return nil, admin.Refuse(http.StatusConflict, "this process does not reload")
	}
	ask, err := req.ask("reload")
	if err != nil {
		return nil, err
	}
	if req.plain() {
		a.driver.Notify("reload")
		return ReloadAnswer{Text: "asked for; holdfast status shows what comes of it"}, nil
	}
	return a.request(ctx, &req, ask), nil
}

// request waits for what comes of it as long as who asks wants to.
func (a *App) request(ctx context.Context, req *ReloadRequest, ask reload.Ask) ReloadAnswer {
	if limit := time.Duration(req.TimeoutSeconds * float64(time.Second)); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	res := a.driver.Request(ctx, ask)
	return answerOf(&res)
}

// adminRollback offers what is stored instead of what the sources say.
func (a *App) adminRollback(ctx context.Context, r *admin.Request) (any, error) {
	var req RollbackRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if a.driver == nil {
		return nil, admin.Refuse(http.StatusConflict, "this process does not reload")
	}
	ask, err := req.ask("rollback")
	if err != nil {
		return nil, err
	}
	if ask.Expect != "" {
		return nil, admin.Refuse(http.StatusBadRequest, "a rollback does not ask the sources, there is nothing to expect of them")
	}
	ask.Back, ask.To = true, reload.Generation(req.To)
	return a.request(ctx, &req.ReloadRequest, ask), nil
}

// adminConfirm is somebody who says that the trial under way went well.
func (a *App) adminConfirm(ctx context.Context, r *admin.Request) (any, error) {
	var req ConfirmRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if a.driver == nil {
		return nil, admin.Refuse(http.StatusConflict, "this process does not reload")
	}
	res := a.driver.Confirm(ctx, req.Expect)
	return answerOf(&res), nil
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
	c.ConfirmUntil = x.ConfirmUntil.UTC()
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
