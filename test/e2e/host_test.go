// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// guardPort marks a loopback address as in use by one test. No configuration listens there.
const guardPort = "65001"

// ownHost returns a loopback address that no other test uses while this one runs. On it every port is free, whatever
// comes and goes on 127.0.0.1: a process can be given 4317, and get it again when it is started anew.
func ownHost(t *testing.T) string {
	t.Helper()
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 100+rand.IntN(150), rand.IntN(256), 1+rand.IntN(254))
		guard, err := net.Listen("tcp", net.JoinHostPort(host, guardPort))
		if err == nil {
			t.Cleanup(func() { _ = guard.Close() })
			return host
		}
	}
	t.Fatal("no loopback address is free")
	return ""
}

// outcome is how a run that ends by itself went.
type outcome struct {
	code           int
	stdout, stderr string
}

// runOnce runs the binary to its end.
func runOnce(t *testing.T, stdin string, env []string, args ...string) outcome {
	t.Helper()
	return runProgram(t, binary, stdin, env, args...)
}

// runProgram is runOnce under another name.
func runProgram(t *testing.T, program, stdin string, env []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(append(os.Environ(), "HOLDFAST_STATE_DIR="+t.TempDir()), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("holdfast %q did not end by itself: %v\n%s", args, err, stderr.String())
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
