// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/cli"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

func TestTopPrintsOneFrameWhereThereIsNoTerminal(t *testing.T) {
	s := newStranger(t)
	status.Judge(&s.status)
	for _, args := range [][]string{{"top"}, {"top", "--once"}} {
		code, out, errs := s.ask(args...)
		if code != 0 || !strings.Contains(out, "All is well.") || strings.Contains(out, "\x1b") || strings.Contains(out, "q quits") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
}

func TestTopAsksAPageElsewhere(t *testing.T) {
	s := status.Status{Phase: "running"}
	status.Judge(&s)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status.json" {
			http.Error(w, "\x1b[31mno such name", http.StatusMisdirectedRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(s)
	}))
	defer page.Close()
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		return cli.Main(append([]string{"holdfast", "top"}, args...), strings.NewReader(""), &out, &errs), out.String(), errs.String()
	}
	for _, address := range []string{page.URL, page.URL + "/", strings.TrimPrefix(page.URL, "http://")} {
		if code, out, errs := run("--address", address); code != 0 || !strings.Contains(out, "All is well.") {
			t.Errorf("%s: exit %d\n%s%s", address, code, out, errs)
		}
	}
	if code, _, errs := run("--address", page.URL+"/elsewhere"); code != 4 || !strings.Contains(errs, "421") || strings.Contains(errs, "\x1b") {
		t.Errorf("refused: exit %d, %s", code, errs)
	}
	page.Close()
	if code, _, errs := run("--address", page.URL); code != 4 || errs == "" {
		t.Errorf("nobody there: exit %d, %s", code, errs)
	}
}

func TestTopWithoutAnInstanceSaysSo(t *testing.T) {
	var out, errs bytes.Buffer
	code := cli.Main([]string{"holdfast", "top", "--admin-socket", filepath.Join(t.TempDir(), "none.sock")}, strings.NewReader(""), &out, &errs)
	if code != 4 || !strings.Contains(errs.String(), "no running holdfast found") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	if code := cli.Main([]string{"holdfast", "top", "--every", "1ms"}, strings.NewReader(""), &out, &errs); code != 1 {
		t.Errorf("a thousand times a second: exit %d", code)
	}
}
