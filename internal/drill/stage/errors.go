// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"errors"

	"github.com/holdfast-telemetry/holdfast/internal/drill/lookout"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
)

// What may come of a step, besides what was wanted. Any other error is the drill's own.

// brokenError is a promise that was seen not to be kept.
type brokenError struct{ promise, text string }

func (e *brokenError) Error() string { return e.promise + ": " + e.text }

// idleError says that a fault was never met.
type idleError struct{ text string }

func (e *idleError) Error() string { return e.text }

// owed makes a promise of what was waited for: that it did not come is not only late.
func owed(promise string, err error) error {
	var late *lookout.LateError
	if errors.As(err, &late) {
		return &brokenError{promise, late.Error()}
	}
	return err
}

// fault makes what was waited for a part of the fault: without it nothing was tested.
func fault(text string, err error) error {
	var late *lookout.LateError
	if errors.As(err, &late) {
		return &idleError{text + ": " + late.Error()}
	}
	return err
}

// take sorts an error of a play: what goes on to the ledger all the same is nil.
func (m *room) take(err error) error {
	var broken *brokenError
	var idle *idleError
	var late *lookout.LateError
	var ended *lookout.EndedError
	switch {
	case errors.As(err, &broken):
		m.out.Breaks(broken.promise, nil, "%s", broken.text)
		if m.child.Running() {
			return nil
		}
		return errors.New("the ledger could not be asked: the process is gone")
	case errors.As(err, &ended):
		m.out.Breaks(verdict.Running, nil, "%s", ended)
		return errors.New("the ledger could not be asked: the process is gone")
	case errors.As(err, &idle):
		m.out.Doubt("%s", idle.text)
		return nil
	case errors.As(err, &late):
		m.out.Doubt("%s", late)
		return nil
	}
	return err
}
