// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package operator answers what commands ask of a running process: reload, confirm, go back, and hold, release or probe a
// level.
//
// It stands between the admin socket and those who can do it, the reload driver and the switch room: it reads a request,
// finds who is meant, and passes the wish and its refusal on. It decides nothing and remembers nothing, and what is asked
// for is bounded in time.
package operator

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// reloadTime bounds one answer to a request for a reload: a trial and what it may be prolonged by.
const reloadTime = 5 * time.Minute

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

// Configs answers what operators want of the configuration.
type Configs struct {
	Driver *reload.Driver // nil = the configuration never changes
}

// Routes are the requests that it answers.
func (c *Configs) Routes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodPost, Path: "/reload", Timeout: reloadTime, Handle: c.reload},
		{Method: http.MethodGet, Path: "/config/history", Handle: c.history},
		{Method: http.MethodPost, Path: "/config/confirm", Handle: c.confirm},
		{Method: http.MethodPost, Path: "/config/rollback", Timeout: reloadTime, Handle: c.rollback},
	}
}

func answerOf(res *reload.Result) ReloadAnswer {
	return ReloadAnswer{
		Outcome: string(res.Outcome), Generation: uint64(res.Generation), SHA256: res.Hash, Evidence: string(res.Evidence),
		Reason: string(res.Reason), Text: res.Text, ConfirmUntil: res.Until,
	}
}

func (c *Configs) reload(ctx context.Context, r *admin.Request) (any, error) {
	var req ReloadRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if c.Driver == nil {
		return nil, admin.Refuse(http.StatusConflict, "this process does not reload")
	}
	ask, err := req.ask("reload")
	if err != nil {
		return nil, err
	}
	if req.plain() {
		c.Driver.Notify("reload")
		return ReloadAnswer{Text: "asked for; holdfast status shows what comes of it"}, nil
	}
	return c.request(ctx, &req, ask), nil
}

// request waits for what comes of it as long as who asks wants to.
func (c *Configs) request(ctx context.Context, req *ReloadRequest, ask reload.Ask) ReloadAnswer {
	if limit := time.Duration(req.TimeoutSeconds * float64(time.Second)); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	res := c.Driver.Request(ctx, ask)
	return answerOf(&res)
}

// rollback offers what is stored instead of what the sources say.
func (c *Configs) rollback(ctx context.Context, r *admin.Request) (any, error) {
	var req RollbackRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if c.Driver == nil {
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
	return c.request(ctx, &req.ReloadRequest, ask), nil
}

// confirm is somebody who says that the trial under way went well.
func (c *Configs) confirm(ctx context.Context, r *admin.Request) (any, error) {
	var req ConfirmRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if c.Driver == nil {
		return nil, admin.Refuse(http.StatusConflict, "this process does not reload")
	}
	res := c.Driver.Confirm(ctx, req.Expect)
	return answerOf(&res), nil
}

// history is the list of attempts, newest first.
func (c *Configs) history(context.Context, *admin.Request) (any, error) {
	if c.Driver == nil {
		return []reload.Entry{}, nil
	}
	return c.Driver.Snapshot().Attempts, nil
}
