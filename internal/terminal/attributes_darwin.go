// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package terminal

import "golang.org/x/sys/unix"

const (
	getAttributes = unix.TIOCGETA
	setAttributes = unix.TIOCSETA
)
