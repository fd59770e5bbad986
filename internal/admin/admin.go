// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package admin is the door for the people who run a process: HTTP/1.1 with JSON over a unix socket in the state
// directory, and the client that the commands knock with.
//
// It stands beside the path of data. Routes are registered by whoever answers them; this package knows none of their
// words. It promises that nobody but the owner of the process gets in (the socket is 0600 from the moment it can be
// reached), that every request and answer is bounded in size and time, that a dead process's socket is replaced and a
// living one's is left alone, and that Stop leaves nothing behind. It refuses to know pipelines, queues and
// configurations.
package admin

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"
)

// SocketName is the socket's name in the state directory.
const SocketName = "admin.sock"

// Bounds of the door.
const (
	maxBody     = 1 << 20  // of a request
	maxAnswer   = 16 << 20 // that a client reads
	maxHeader   = 16 << 10
	maxRequests = 16 // answered at once; more are refused with 503
	headTime    = 5 * time.Second
	idleTime    = 30 * time.Second
	// answerTime bounds a request of a route that names no time of its own.
	answerTime = 10 * time.Second
)

// ErrInUse says that another process answers at the socket.
var ErrInUse = errors.New("another process answers there")

// Error is a refusal with a status code of HTTP. Whoever asked is told its text.
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string { return e.Text }

// Refuse makes an Error. The codes in use: 400 wrong words, 404 unknown, 409 cannot be done now.
func Refuse(code int, format string, args ...any) error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// refusal is the body of an answer that is none.
type refusal struct {
	Error string `json:"error"`
}

// codeOf is the status code for an error of a route.
func codeOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return http.StatusInternalServerError
}

// Socket is where a process with the given flags and state directory listens: the flag wins. Empty = nowhere.
func Socket(flag, stateDir string) string {
	switch {
	case flag != "":
		return flag
	case stateDir != "":
		return filepath.Join(stateDir, SocketName)
	}
	return ""
}
