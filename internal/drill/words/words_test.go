// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package words_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
)

func TestNumbersAndTimesAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -100: "-100"} {
		if got := words.Count(n); got != want {
			t.Errorf("%d is written %q", n, got)
		}
	}
	if a, b := words.Seconds(340*time.Millisecond), words.Seconds(2340*time.Millisecond); a != "340 ms" || b != "2.3 s" {
		t.Errorf("%s, %s", a, b)
	}
}

func TestAnErrorIsCutAndItsNewsKept(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "a  b\nc": ": a b c",
		"rpc error: dial tcp 127.1.2.3:1: connect: connection refused": ": connection refused",
		strings.Repeat("é", 200):                                       ": " + strings.Repeat("é", 87) + "...",
	} {
		if got := words.Because(text); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
