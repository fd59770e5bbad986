// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var volume = regexp.MustCompile(`has \d+ MiB`)

// Fault: C2. Every testdata/start/*.bad.yaml has one fault that a start would fail for. `validate` finds it, in the words
// of the golden file, and the start fails for the same component, at the same line.
func TestWhatCannotStartDoesNotPassValidation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writePair(t, dir, "a", time.Now().Add(time.Hour))
	writePair(t, dir, "b", time.Now().Add(time.Hour))
	writePair(t, dir, "old", time.Now().Add(-time.Hour))
	must(t, os.Symlink(filepath.Join(dir, "loop"), filepath.Join(dir, "loop")))
	must(t, os.Symlink(filepath.Join(dir, "nothing"), filepath.Join(dir, "dangling")))
	cases, err := filepath.Glob("testdata/start/*.bad.yaml")
	if err != nil || len(cases) < 40 {
		t.Fatalf("cases %v, %v", cases, err)
	}
	for _, path := range cases {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			must(t, err)
			file := filepath.Join(dir, filepath.Base(path))
			must(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "$DIR", dir)), 0o600))
			args := []string{"validate", "--config", file}
			if strings.HasPrefix(string(text), "# flags: here\n") {
				args = append(args, "--here")
			}
			code, said := runToEnd(t, args...)
			if code != 1 {
				t.Errorf("validate exits %d:\n%s", code, said)
			}
			compareGolden(t, strings.TrimSuffix(path, ".yaml")+".golden", volume.ReplaceAllString(strings.ReplaceAll(said, dir, "$DIR"), "has $$SIZE MiB"))
			// Where: the file and line of the error, and the component if it is about one.
			where := regexp.MustCompile(regexp.QuoteMeta(file) + `:\d+: error: ([a-z]+/[^:]+: )?`).FindStringSubmatch(said)
			if where == nil {
				t.Fatalf("validate names no place:\n%s", said)
			}
			place, _, _ := strings.Cut(where[0], ": error: ")
			code, said = runToEnd(t, "--config", file, "--implicit-health=off", "--state-dir", filepath.Join(dir, "state"))
			if code != 1 || !strings.Contains(said, place) || !strings.Contains(said, where[1]) {
				t.Errorf("the start exits %d and does not say %s %s:\n%s", code, place, where[1], said)
			}
		})
	}
}

// runToEnd runs the program, which is to end by itself, and returns its exit code and what it says on stderr.
func runToEnd(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Errorf("%s did not end", strings.Join(args, " "))
	}
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// writePair writes NAME.crt and NAME.key for localhost.
func writePair(t *testing.T, dir, name string, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "gateway.test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: until,
	}
	if until.Before(time.Now()) {
		template.NotAfter = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC) // its golden file names the day
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// Every configuration in the repository that passes validation comes up, with addresses and directories of its own.
func TestWhatPassesValidationStarts(t *testing.T) {
	t.Parallel()
	seed := func(name string) string { return "../compat/seeds/" + name + ".yaml" }
	complement := func(name string) string { return "../../deploy/seeds/" + name + ".complement.yaml" }
	const a08, a10, b01 = "000-08-recovery-sequence-after-an-outage", "000-10-health-monitoring-for-failover-decisions",
		"001-01-configuring-dual-exporters"
	a02, a05, a06 := seed("000-02-pod-crash-recovery-with-persistent-queues"), seed("000-05-multi-backend-failover"),
		seed("000-06-multi-backend-failover")
	sets := [][]string{
		{a02}, {a02, seed(a10)}, {a05}, {a05, a06}, {seed(a08), complement(a08)}, {seed(a10), complement(a10)},
		{seed(b01), complement(b01)}, {seed(b01), seed("001-02-using-the-failover-connector")},
		{seed(b01), seed("001-03-alternative-fan-out-with-load-balancing")},
	}
	for _, pattern := range []string{"../../deploy/samples/*.yaml", "../../deploy/systemd/config.yaml",
		"../../deploy/kubernetes/base/*/config.yaml", "../../internal/config/testdata/*.good.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, f := range files {
			sets = append(sets, []string{f})
		}
	}
	started := 0
	for _, files := range sets {
		name := filepath.Base(filepath.Dir(files[0])) + "/" + filepath.Base(files[0])
		args, ok := redirected(t, files)
		if !ok {
			continue // not for this registry, or in need of more than its file
		}
		started++
		t.Run(name, func(t *testing.T) {
			if code, said := runToEnd(t, append([]string{"validate", "--here"}, args...)...); code != 0 {
				t.Fatalf("validate --here exits %d:\n%s", code, said)
			}
			p := start(t, append(args, "--implicit-health=off")...)
			p.await("Everything is ready")
			p.signal(os.Interrupt)
			if code := p.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	if started < 15 {
		t.Errorf("only %d of %d configurations were started", started, len(sets))
	}
}

// redirected are the arguments that run files with free addresses and directories of the test's own; false if they are
// not valid by themselves.
func redirected(t *testing.T, files []string) (args []string, ok bool) {
	t.Helper()
	cfg, err := config.Load(t.Context(), config.Options{URIs: files, Registry: components.Registry()})
	if err != nil {
		return nil, false
	}
	p, _ := plan.Build(cfg, components.ExporterQueue)
	dir := t.TempDir()
	for _, f := range files {
		args = append(args, "--config", f)
	}
	set := func(key, value string) { args = append(args, "--set", key+"="+value) }
	for i := range p.Listeners {
		if l := &p.Listeners[i]; l.Component != "" {
			set(l.Key, "127.0.0.1:0")
		}
	}
	set("service::telemetry::metrics::readers", "[]")
	set("service::telemetry::metrics::level", "none")
	for id, c := range cfg.Components[config.Extensions] {
		if c.Type == "file_storage" {
			set("extensions::"+id+"::directory", filepath.Join(dir, strings.ReplaceAll(id, "/", "_")))
		}
	}
	for id, c := range cfg.Components[config.Exporters] {
		if c.Type == "file" {
			set("exporters::"+id+"::path", fmt.Sprintf("%s/%s/out", dir, strings.ReplaceAll(id, "/", "_")))
		}
	}
	return args, true
}

// What a process leaves that was killed is no reason not to start: the socket of a receiver too, and its directory.
func TestASocketThatWasLeftBehindIsTakenOver(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "made", "otlp.sock")
	const text = `receivers: {otlp: {protocols: {grpc: {endpoint: "$SOCKET", transport: unix}}}}
exporters: {nop: }
service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}
`
	p := collector(t, text, map[string]string{"SOCKET": socket})
	second := start(t, "--config", writeConfig(t, text, map[string]string{"SOCKET": socket}), "--implicit-health=off")
	second.await("receivers/otlp: grpc: .*address already in use")
	if code := second.exit(); code != 1 {
		t.Errorf("beside a living process: exit code %d", code)
	}
	must(t, p.cmd.Process.Kill())
	<-p.done
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("nothing was left: %v", err)
	}
	collector(t, text, map[string]string{"SOCKET": socket})
}
