// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/test/sabotage"
)

// playRestarts: it is killed again and again, and once it stays away.
func playRestarts(c *collector) error {
	kill := func(second int) func() error {
		return func() error {
			if err := c.at(second, "killed"); err != nil {
				return err
			}
			return inOrder(func() error { return c.end(syscall.SIGKILL) }, func() error { return c.begin("") })
		}
	}
	return inOrder(
		func() error { return c.at(40, "killed, and away") },
		func() error { return c.end(syscall.SIGKILL) },
		func() error { return c.at(55, "started") },
		func() error { return c.begin("") },
		kill(65), kill(72), kill(79), kill(86),
		func() error { return c.at(95, "runs on") },
	)
}

// unforgiving starts nothing but what it is offered: a configuration that is refused ends the start, whatever ran before.
var unforgiving = strings.Replace(roomy, "service:\n", "service:\n  reload: {on_bad_boot: fail}\n", 1)

func crashes(c *collector) error { return start(c, unforgiving, "backend") }

// The kubelet's waits before a container is started again: 10 s, doubled up to 5 min; a thirtieth, as all times here.
const (
	firstBackOff = 10 * time.Second / 30
	maxBackOff   = 5 * time.Minute / 30
)

// playCrashes: a configuration that cannot start is offered, and the process killed: a crash loop until it is mended.
func playCrashes(c *collector) error {
	err := inOrder(
		func() error { return c.at(40, "configuration broken, killed") },
		func() error { return c.configure(strings.Replace(unforgiving, "min_free_mib", "min_fre_mib", 1)) },
		func() error { return c.end(syscall.SIGKILL) },
	)
	if err != nil {
		return err
	}
	mended := make(chan error, 1)
	c.loads.Go(func() {
		mended <- inOrder(
			func() error { return c.at(100, "configuration mended") },
			func() error { return c.configure(unforgiving) },
		)
	})
	for wait := firstBackOff; ; wait = min(2*wait, maxBackOff) {
		if err := c.begin(""); err == nil {
			c.stage.rec.mark(c, "runs again")
			return <-mended
		} else if !errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// books is a build that is wrong: what a backend refuses for good is set aside and not booked. No right build is known to
// lose count.
func books(c *collector) error {
	wrong, err := sabotage.Read(c.stage.root, "forget-the-refused")
	if err != nil {
		return err
	}
	if c.binary, err = wrong.Build(c.ctx, c.dir); err != nil {
		return err
	}
	return start(c, roomy, "backend")
}

// playBooks: its backend refuses everything for good, and takes it again; later the right build takes its place.
func playBooks(c *collector) error {
	return inOrder(
		func() error { return c.fault(40, "backend rejects", "status:InvalidArgument") },
		func() error { return c.fault(70, "backend "+answers) },
		func() error { return c.at(100, "right build") },
		func() error { return c.end(syscall.SIGTERM) },
		func() error { c.binary = c.right; return c.begin("") },
	)
}
