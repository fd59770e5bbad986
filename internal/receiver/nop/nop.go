// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package nop is the receiver that receives nothing: a placeholder in configurations.
package nop

import (
	"context"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// Config has no keys.
type Config struct{}

type nop struct{}

// Factory makes receivers of type nop.
func Factory() receiver.Factory {
	return receiver.Factory{
		Type:    "nop",
		Default: func() any { return &Config{} },
		New:     func(receiver.Settings, any) (receiver.Receiver, error) { return nop{}, nil },
	}
}

func (nop) Start(context.Context, component.Host) error { return nil }
func (nop) Stop(context.Context) error                  { return nil }

var _ receiver.Receiver = nop{}
