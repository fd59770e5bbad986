// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import "runtime"

// heldBytes is what is reachable in this process.
func heldBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
