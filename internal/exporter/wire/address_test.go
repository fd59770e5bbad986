// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"strings"
	"testing"

	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

func TestHeadersThatCannotBeSentAreNamedWithoutTheirValues(t *testing.T) {
	for header, want := range map[string]string{
		"authorization": "", "X-Api-Key": "", "x_y.z": "", "two words": "not a name", "": "not a name", "x:y": "not a name", "ü": "not a name",
	} {
		var h configopaque.MapList
		h.Set(header, "s3cret")
		if err := wire.CheckHeaders(h); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", header, err)
		}
	}
	for value, good := range map[string]bool{"plain": true, "Bearer a=b, c": true, "s3cret\n": false, "s3cret\x00": false, "s3cret\r\nx: y": false} {
		var h configopaque.MapList
		h.Set("x-y", configopaque.String(value))
		err := wire.CheckHeaders(h)
		if (err == nil) != good || err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestPortsThatAreNoneAreTold(t *testing.T) {
	for address, good := range map[string]bool{
		"a:1": true, "a:65535": true, "[::1]:4317": true, "a:otlp": true, "a": true, "unix:/x": true, "dns:///a:4317": true, "a:": true,
		"a:0": false, "a:65536": false, "a:99999999999999": false, "[::1]:70000": false,
	} {
		if err := wire.CheckPort(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}
