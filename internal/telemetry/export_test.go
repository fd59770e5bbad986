// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

// CgroupLimit and the others let tests read made-up system files.
var (
	CgroupLimit    = cgroupLimit
	PhysicalMemory = physicalMemory
	RuntimeShare   = runtimeShare
)
