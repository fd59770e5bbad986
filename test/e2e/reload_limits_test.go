// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The limits of a storage change with a reload: more room lets in what was refused, without a restart; a cap that the
// journals do not fit in is refused by name; a trial that is taken back takes its limits back.
func TestLimitsOfAStorageChangeWithAReload(t *testing.T) {
	t.Parallel()
	s := newShift(t)
	s.values["DIR"] = filepath.Join(s.base, "queue")
	capped := func(mib, trial string) string {
		text := strings.Replace(stored, "max_file_size_mib: 16", "max_file_size_mib: "+mib, 1)
		return strings.Replace(text, "service:\n", "service:\n  reload: {trial: "+trial+", preflight: off}\n", 1)
	}
	limited := func(mib int) {
		t.Helper()
		if v := s.value("holdfast_journal_disk_limit_bytes", "storage", "file_storage"); v != float64(mib<<20) {
			t.Errorf("the limit is %v, want %d MiB", v, mib)
		}
	}
	s.start(capped("16", "200ms"))
	s.p.await("Config committed")
	s.becomes(capped("16", "20s"), 0, `^committed`) // what governs from now on
	acked := fill(t, s.host, s.values["DIR"], "small")
	s.becomes(capped("8", "20s"), 1, `max_file_size_mib`)
	limited(16)
	s.write(capped("64", "20s"))
	s.p.signal(syscall.SIGHUP)
	s.p.await(`Config switched, trial begins.*"source": "SIGHUP"`)
	limited(64)
	more := long("more", 64)
	eventually(t, "what was refused is taken", func() bool { return offer(t, s.host, more) == http.StatusOK })
	s.becomes(capped("16", "20s"), 0, `^committed.*runs again`)
	limited(16)
	if code := offer(t, s.host, long("again", 64*64)); code != http.StatusServiceUnavailable {
		t.Errorf("with the old limit 4 MiB are answered with %d", code)
	}
	b := startBackend(t, s.host+":14317", nil)
	b.await(t, acked)
	b.await(t, more)
	scrapeBalanced(t, s.host+":8888")
	if code := s.p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
