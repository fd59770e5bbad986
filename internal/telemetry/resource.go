// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"crypto/rand"
	"fmt"
)

// NewResource makes the attributes that say which process log lines and metrics come from: service.name,
// service.version, a random service.instance.id, and what service::telemetry::resource adds. There, null takes an
// attribute away. Both spellings are read: a map of attributes, and `attributes: [{name, value}]`.
func NewResource(configured map[string]any, version string) (map[string]string, error) {
	res := map[string]string{
		"service.name": "holdfast", "service.version": version, "service.instance.id": newInstance(),
	}
	set := func(name string, value any) {
		if value == nil {
			delete(res, name)
			return
		}
		res[name] = fmt.Sprint(value)
	}
	for name, value := range configured {
		switch name {
		case "schema_url", "detectors", "attributes":
			if _, text := value.(string); !text || name == "schema_url" {
				continue // keys of the other spelling
			}
		}
		set(name, value)
	}
	list, ok := configured["attributes"].([]any)
	if !ok {
		return res, nil
	}
	for i, entry := range list {
		attribute, _ := entry.(map[string]any)
		name, ok := attribute["name"].(string)
		if !ok || name == "" {
			return nil, fmt.Errorf("service::telemetry::resource::attributes[%d]: no name", i)
		}
		set(name, attribute["value"])
	}
	return res, nil
}

// newInstance returns a random UUID, version 4 (RFC 9562).
func newInstance() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
