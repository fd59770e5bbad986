// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package command

import "fmt"

// ExitError ends a command with an exit code of its own. A nil Err says that everything there is to say was printed.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }
