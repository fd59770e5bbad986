// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// errStalled says that the disk under the store does not answer.
var errStalled = fmt.Errorf("the disk does not answer for %s", diskLimit)

// slowDisk runs one operation of the store at a time and does not wait for it for ever: while one is stuck all others
// fail at once, and the loop goes on.
type slowDisk struct {
	busy chan struct{} // one place
}

func (s *slowDisk) do(f func() error) error {
	select {
	case s.busy <- struct{}{}:
	default:
		return errStalled
	}
	done := make(chan error, 1)
	go func() { // ends with the operation
		err := f()
		<-s.busy
		done <- err
	}()
	t := time.NewTimer(diskLimit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errStalled
	}
}

// keep does something with the store, best effort. Without a store it does nothing; that was said when it was opened.
func (d *Driver) keep(what string, f func() error) error {
	if d.store == nil {
		return errNoStore
	}
	err := d.disk.do(f)
	if err != nil {
		d.storeFailed(what, err)
	} else if d.storeErr != nil && what == "good" {
		d.storeErr = nil
	}
	if !errors.Is(err, errStalled) {
		d.noteStore()
	}
	return err
}

var errNoStore = errors.New("there is no state directory")

// storeFailed counts, and says so once per cause.
func (d *Driver) storeFailed(what string, err error) {
	d.figures.storeErrors.Inc()
	if d.storeErr == nil || d.storeErr.Error() != err.Error() {
		d.log.Error("Config store failed", zap.String("operation", what), zap.Error(err))
	}
	d.storeErr = err
}

// noteStore logs what the store found damaged.
func (d *Driver) noteStore() {
	for _, note := range d.store.Notes() {
		d.figures.storeErrors.Inc()
		d.log.Warn("Config store: " + note)
	}
}

// storeGood makes what was committed the good configuration.
func (d *Driver) storeGood(a *Action) error {
	l := d.loads[a.Generation]
	if l == nil {
		return errors.New("its text is gone")
	}
	good := &Good{Record: a.Record, Texts: l.texts, Version: d.set.Version, Deliveries: d.lastDeliveries()}
	var stored []kept
	err := d.keep("good", func() error {
		err := d.store.SaveGood(good)
		stored = d.store.kept()
		return err
	})
	if !errors.Is(err, errStalled) { // else it is still being written to
		d.stored = stored
	}
	return err
}

// remembered appends to the history.
func (d *Driver) remembered(e Entry) {
	d.history = withEntry(d.history, e)
	d.keep("history", func() error { return d.store.AddHistory(e) })
}

// sample asks what runs for its evidence. An instance that panics is fatal evidence of its own.
func (d *Driver) sample() (s *Sample) {
	if d.running == nil {
		return nil
	}
	got := d.guard("sample", d.runs, func() {
		taken := d.running.Sample()
		s = &taken
	})
	if s == nil {
		s = &Sample{Fatal: []string{got}}
	}
	if why := d.broken[d.runs]; why != "" {
		s.Fatal = append(s.Fatal, why)
	}
	return s
}
