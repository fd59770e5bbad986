// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && race

package crash

// raceDetector says that this program was built with it.
const raceDetector = true
