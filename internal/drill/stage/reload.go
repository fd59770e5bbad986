// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// What a reload can offer.
const (
	broken       = "broken"
	undelivering = "undelivering"
	good         = "good"
)

// reload offers another configuration, and waits until it was looked at.
func (m *room) reload(ctx context.Context, which string, limit time.Duration) error {
	n, _ := m.seen.Latest()
	if n.status == nil {
		return &idleError{"the process cannot be asked"}
	}
	if m.was == "" {
		m.was = n.status.Config.Running.SHA256
	}
	m.offered = 0
	if a := n.status.Config.Attempts; len(a) > 0 {
		m.offered = a[0].Generation
	}
	if err := m.offer(which); err != nil {
		return err
	}
	if err := m.child.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	m.say("SIGHUP with a configuration that is %s", which)
	if which == good { // one that runs already is no attempt
		return nil
	}
	var last status.Attempt
	err := m.until(ctx, limit, "the "+which+" configuration was looked at", func(n *look) (ok bool) {
		last, ok = m.attempt(n)
		return ok
	})
	if err != nil {
		return owed(verdict.OldConfig, err)
	}
	m.say("the %s configuration: %s %s", which, last.State, last.Reason)
	n, _ = m.seen.Latest()
	if which == broken && n.status.Config.Running.SHA256 != m.was {
		return &brokenError{verdict.OldConfig, "another configuration runs"}
	}
	return nil
}

// attempt is what became of the configuration that was offered last; false if nothing did yet.
func (m *room) attempt(n *look) (status.Attempt, bool) {
	if n.status == nil || len(n.status.Config.Attempts) == 0 || n.status.Config.Attempts[0].Generation <= m.offered {
		return status.Attempt{}, false
	}
	return n.status.Config.Attempts[0], true
}

// offer writes what the next reload reads.
func (m *room) offer(which string) error {
	last := len(m.files) - 1
	text := m.play.Texts[last]
	to := m.backends
	switch which {
	case broken:
		text = "exporters: {no_such_exporter: {}}\nservice: [\n" + text
	case undelivering:
		for _, d := range m.doubles { // a probe is empty, and holds nothing that is marked
			if err := d.SetFaults("reject_marked"); err != nil {
				return err
			}
		}
		to, text = m.doubles, text+"\n# led elsewhere\n"
	case good:
	default:
		return fmt.Errorf("no configuration is called %q", which)
	}
	errs := []error{os.WriteFile(m.files[last], []byte(text), 0o600)}
	for id, name := range m.addresses {
		addr := to[id].GRPCAddr()
		if addr == "" {
			addr = to[id].HTTPAddr()
		}
		errs = append(errs, os.WriteFile(name, []byte(addr), 0o600))
	}
	return errors.Join(errs...)
}
