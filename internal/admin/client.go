// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// UnreachableError says that no process answers, and where it was looked for.
type UnreachableError struct {
	Tried []string // sockets
	Err   error    // why the last one that exists does not answer; nil = none exists
}

func (e *UnreachableError) Error() string {
	places := strings.Join(e.Tried, ", ")
	switch {
	case len(e.Tried) == 0:
		return "no running holdfast found: there is no place to look for its socket"
	case e.Err == nil:
		return fmt.Sprintf("no running holdfast found: no socket at %s (name its --admin-socket or --state-dir)", places)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("holdfast is not reachable at %s: permission denied (run this as the user that runs holdfast, or "+
			"as root)", places)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no running holdfast found: nobody listens at %s; the process that made it has ended", places)
	}
	return fmt.Sprintf("holdfast is not reachable at %s: %v", places, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Client asks a running process.
type Client struct {
	path string
	http *http.Client
}

// Find returns a client of the first socket that answers. The error is an *UnreachableError.
func Find(sockets []string) (*Client, error) {
	fail := &UnreachableError{}
	for _, path := range sockets {
		conn, err := dial(path, knockTime)
		if err == nil {
			_ = conn.Close() // it was a knock
			return NewClient(path), nil
		}
		fail.Tried = append(fail.Tried, path)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			fail.Err = err
		}
	}
	if fail.Err != nil && len(fail.Tried) > 1 { // say only where something was
		fail.Tried = existing(fail.Tried)
	}
	return nil, fail
}

// existing keeps the sockets whose dial said something else than that they are not there.
func existing(sockets []string) []string {
	var out []string
	for _, path := range sockets {
		if _, err := dial(path, knockTime); !errors.Is(err, fs.ErrNotExist) {
			out = append(out, path)
		}
	}
	return out
}

// NewClient returns a client of the process that listens at path.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			name, done, err := short(path)
			if err != nil {
				return nil, err
			}
			defer done()
			return d.DialContext(ctx, "unix", name)
		},
	}}}
}

// Path is the socket.
func (c *Client) Path() string { return c.path }

// Get asks path, which may have a query, and reads the answer's JSON into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, nil, out)
}

// Post sends in as JSON to path and reads the answer's JSON into out; nil = it is not looked at.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	return c.do(ctx, http.MethodPost, path, bytes.NewReader(body), out)
}

// do asks. A refusal of the other side is an *Error; no answer at all an *UnreachableError.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://holdfast"+path, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return &UnreachableError{Tried: []string{c.path}, Err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &UnreachableError{Tried: []string{c.path}, Err: err}
	case len(text) > maxAnswer:
		return fmt.Errorf("ask %s: the answer is longer than %d bytes", path, maxAnswer)
	case resp.StatusCode != http.StatusOK:
		var r refusal
		if json.Unmarshal(text, &r) != nil || r.Error == "" {
			r.Error = strings.TrimSpace(string(text))
		}
		return &Error{Code: resp.StatusCode, Text: r.Error}
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("ask %s: read answer: %w", path, err)
	}
	return nil
}
