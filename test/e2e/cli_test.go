// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// plain is a configuration that runs: one door, nothing behind it.
const plain = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
exporters: {nop: {}}
extensions: {health_check: {endpoint: "$HOST:13133"}}
service:
  extensions: [health_check]
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: "$HOST", port: 8888}}}}]}}
  pipelines: {traces: {receivers: [otlp], exporters: [nop]}}
`

func plainAt(t *testing.T, host string) string {
	t.Helper()
	return writeConfig(t, plain, map[string]string{"HOST": host})
}

// refused checks a run that cannot start: exit code 1, exactly one line that names the mistake, and nothing around it
// that hides it.
func refused(t *testing.T, o outcome, pattern string) {
	t.Helper()
	var complaints []string
	for line := range strings.Lines(o.stderr) {
		line = strings.TrimRight(line, "\n")
		// The log has its own line of what became of the configuration; people are told in another one.
		isLog := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+\t(info|warn|error\t\S+\tConfig rejected)\t`).MatchString(line)
		if !isLog && !strings.Contains(line, ": note: ") {
			complaints = append(complaints, line)
		}
	}
	if len(complaints) != 1 {
		t.Errorf("%d lines of complaint, want 1:\n%s", len(complaints), o.stderr)
	} else if !regexp.MustCompile(`(?i)` + pattern).MatchString(complaints[0]) {
		t.Errorf("complains %q, want a match of %q", complaints[0], pattern)
	}
	for _, noise := range []string{"Usage:", "goroutine ", "panic:", "Stacktrace"} {
		if strings.Contains(o.stderr, noise) {
			t.Errorf("prints %q:\n%s", noise, o.stderr)
		}
	}
	if o.stdout != "" {
		t.Errorf("prints to stdout: %s", o.stdout)
	}
	if o.code != 1 {
		t.Errorf("exit code %d, want 1", o.code)
	}
}

// Fault: C1. A mistake in a configuration is one line with file, line and cause.
func TestBadConfigurationIsOneLineThatNamesThePlace(t *testing.T) {
	const good = `receivers: {otlp: {}}
exporters:
  nop: {}
service:
  pipelines: {traces: {receivers: [otlp], exporters: [nop]}}
`
	for _, c := range []struct{ name, config, want string }{
		{"syntax", "receivers:\n  otlp: [\n", `^\S+/bad\.yaml:2: error: not YAML: `},
		{"unknown key", strings.Replace(good, "nop: {}", "nop: {}\n  otlp_grpc: {endpoint: \"h:1\", compresion: gzip}", 1),
			`^\S+/bad\.yaml:4: error: exporters/otlp_grpc: unknown key "compresion" \(did you mean "compression"\?\)$`},
		{"unknown type", strings.Replace(good, "nop: {}", "nop: {}\n  otlp_grcp: {endpoint: \"h:1\"}", 1),
			`^\S+/bad\.yaml:4: error: exporters/otlp_grcp: unknown type "otlp_grcp" \(did you mean "otlp_grpc"\?\)$`},
		{"reference to nothing", strings.Replace(good, "exporters: [nop]", "exporters: [nop/b]", 1),
			`^\S+/bad\.yaml:5: error: exporter "nop/b" is not defined \(.*nop.*\)$`},
		{"no pipeline", strings.Replace(good, "pipelines: {traces: {receivers: [otlp], exporters: [nop]}}", "pipelines: {}", 1),
			`^\S+/bad\.yaml:\d+: error: there is no pipeline`},
		{"empty file", "", `^\S+/bad\.yaml: error: there is no pipeline`},
		{"wrong kind", strings.Replace(good, "otlp: {}", "otlp: {protocols: {grpc: {max_recv_msg_size_mib: many}}}", 1),
			`^\S+/bad\.yaml:1: error: receivers/otlp: .*max_recv_msg_size_mib`},
		{"duplicate key", good + "exporters: {nop: {}}\n", `^\S+/bad\.yaml:6: error: .*exporters`},
		{"terminal escapes in a name", strings.Replace(good, "exporters: [nop]", `exporters: ["nop/\u001b[31mred"]`, 1),
			`^\S+/bad\.yaml:5: error: [[:print:]]+$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad.yaml")
			if err := os.WriteFile(path, []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, runOnce(t, "", nil, "--config", path, "--implicit-health=off"), c.want)
			refused(t, runOnce(t, "", nil, "validate", "--config", path), c.want)
		})
	}
}

func TestWrongUsageIsOneLineWithTheNearestName(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no configuration", nil, `^Error: at least one --config is needed`},
		{"no configuration to run", []string{"run"}, `^Error: at least one --config is needed`},
		{"no configuration to validate", []string{"validate"}, `^Error: .*at least one`},
		{"configuration that is not there", []string{"--config", "/nowhere/x.yaml"}, `^Error: .*/nowhere/x\.yaml.*no such file`},
		{"unknown flag", []string{"--confg", "x"}, `^Error: unknown flag: --confg \(did you mean --config\?\)$`},
		{"unknown flag of a command", []string{"validate", "--strct"}, `^Error: unknown flag: --strct \(did you mean --strict\?\)$`},
		{"unknown command", []string{"valdate"}, `^Error: unknown command "valdate" \(did you mean "validate"\?\)$`},
		{"terminal escapes", []string{"\x1b[31mred"}, `^Error: unknown command "[[:print:]]+$`},
		{"terminal escapes in a name", []string{"--config", "/nowhere/\x1b[31mred"}, `^Error: [[:print:]]+$`},
		{"command like nothing", []string{"fly"}, `^Error: unknown command "fly" \(see holdfast --help\)$`},
		{"malformed --set", []string{"--config", "yaml:{}", "--set", "x"}, `^Error: --set "x": `},
		{"value that is no duration", []string{"--config", "yaml:{}", "--shutdown-timeout", "long"}, `^Error: invalid argument "long" for "--shutdown-timeout"`},
		{"empty feature gate", []string{"--config", "yaml:{}", "--feature-gates", ","}, `^Error: .*--feature-gates`},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, runOnce(t, "", nil, c.args...), c.want) })
	}
}

// Fault: C2.
func TestTakenPortIsNamedAndNothingStaysBehind(t *testing.T) {
	for _, c := range []struct{ name, port, want string }{
		{"receiver, gRPC", "4317", `^Error: \S+config\.yaml:\d+: receivers/otlp: grpc: .*$HOST:4317.*address already in use$`},
		{"receiver, HTTP", "4318", `^Error: \S+config\.yaml:\d+: receivers/otlp: http: .*$HOST:4318.*address already in use$`},
		{"metrics", "8888", `^Error: .*$HOST:8888.* for metrics.*address already in use$`},
		{"health_check", "13133", `^Error: \S+config\.yaml:\d+: extensions/health_check: .*$HOST:13133.*address already in use$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := ownHost(t)
			taken, err := net.Listen("tcp", net.JoinHostPort(host, c.port))
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			pidFile := filepath.Join(t.TempDir(), "pid")
			o := runOnce(t, "", nil, "--config", plainAt(t, host), "--pid-file", pidFile)
			refused(t, o, strings.ReplaceAll(c.want, "$HOST", regexp.QuoteMeta(host)))
			if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
				t.Errorf("the PID file stays behind: %v", err)
			}
		})
	}
}

// Fault: C2, B13.
func TestCertificateThatCannotBeUsedIsNamedAtStart(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, "test")
	good := ca.issue(t, identity{names: []string{"127.0.0.1"}}).write(t, dir, "good")
	other := ca.issue(t, identity{names: []string{"127.0.0.1"}}).write(t, dir, "other")
	expired := ca.issue(t, identity{names: []string{"127.0.0.1"}, expired: true}).write(t, dir, "expired")
	garbage := filepath.Join(dir, "garbage.pem")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := func(protocol, cert, key string) string {
		return `receivers.otlp.protocols.` + protocol + `.tls={cert_file: "` + cert + `", key_file: "` + key + `"}`
	}
	client := func(exporter, tls string) []string {
		return []string{"exporters." + exporter + `={endpoint: "https://127.0.0.1:1", tls: {` + tls + `}}`,
			"service.pipelines.traces.exporters=[" + exporter + "]"}
	}
	for _, c := range []struct {
		name string
		sets []string
		want string
	}{
		{"missing, gRPC receiver", []string{server("grpc", dir+"/no.pem", good.key)}, `error: receivers/otlp: .*no\.pem: no such file`},
		{"missing, HTTP receiver", []string{server("http", dir+"/no.pem", good.key)}, `error: receivers/otlp: .*no\.pem: no such file`},
		{"unreadable", []string{server("grpc", dir, good.key)}, `error: receivers/otlp: .*is a directory`},
		{"not a certificate", []string{server("grpc", garbage, good.key)}, `error: receivers/otlp: .*PEM`},
		{"key of another", []string{server("http", good.cert, other.key)}, `error: receivers/otlp: .*private key does not match`},
		{"expired", []string{server("grpc", expired.cert, expired.key)}, `error: receivers/otlp: .*certificate .*expired on `},
		{"missing CA, gRPC exporter", client("otlp_grpc", `ca_file: "`+dir+`/no.pem"`), `error: exporters/otlp_grpc: .*no\.pem: no such file`},
		{"missing CA, HTTP exporter", client("otlp_http", `ca_file: "`+dir+`/no.pem"`), `error: exporters/otlp_http: .*no\.pem: no such file`},
		{"client key missing, gRPC exporter", client("otlp_grpc", `cert_file: "`+good.cert+`", key_file: "`+dir+`/no.pem"`), `error: exporters/otlp_grpc: .*no\.pem: no such file`},
		{"client key missing, HTTP exporter", client("otlp_http", `cert_file: "`+good.cert+`", key_file: "`+dir+`/no.pem"`), `error: exporters/otlp_http: .*no\.pem: no such file`},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"--config", plainAt(t, ownHost(t))}
			for _, s := range c.sets {
				args = append(args, "--set", s)
			}
			refused(t, runOnce(t, "", nil, args...), c.want)
		})
	}
}

// effective is what print-config makes of its arguments.
func effective(t *testing.T, stdin string, env []string, args ...string) map[string]any {
	t.Helper()
	o := runOnce(t, stdin, env, append([]string{"print-config", "--format", "json"}, args...)...)
	if o.code != 0 {
		t.Fatalf("print-config %q: exit code %d: %s", args, o.code, o.stderr)
	}
	tree := map[string]any{}
	if err := json.Unmarshal([]byte(o.stdout), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// at walks a tree of maps.
func at(tree any, path ...string) any {
	for _, key := range path {
		m, ok := tree.(map[string]any)
		if !ok {
			return nil
		}
		tree = m[key]
	}
	return tree
}

func TestSourcesAreMergedInOrderAndSetComesLast(t *testing.T) {
	const base = `{receivers: {otlp: {protocols: {grpc: {endpoint: "h:1"}}}}, exporters: {nop: {}, debug: {}},
service: {pipelines: {traces: {receivers: [otlp], exporters: [nop, debug]}}}}`
	file := filepath.Join(t.TempDir(), "site.yaml")
	text := "exporters: {debug: {verbosity: normal}}\nreceivers: {otlp: {protocols: {grpc: {endpoint: \"${env:PLACE}\"}}}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"BASE=" + base, "PLACE=from-environment:4317"}
	tree := effective(t, "", env, "--config", "env:BASE", "--config", file,
		"--config", "yaml:service::pipelines::traces::exporters: [debug]",
		"--set", "exporters::debug::sampling_initial=7")
	if got := at(tree, "receivers", "otlp", "protocols", "grpc", "endpoint"); got != "from-environment:4317" {
		t.Errorf("a later file and ${env:} do not win: endpoint %v", got)
	}
	if got := at(tree, "exporters", "debug", "verbosity"); got != "normal" {
		t.Errorf("maps are not merged key by key: verbosity %v", got)
	}
	if got, _ := json.Marshal(at(tree, "service", "pipelines", "traces", "exporters")); string(got) != `["debug"]` {
		t.Errorf("a yaml: URI does not replace a list: %s", got)
	}
	if got := at(tree, "exporters", "debug", "sampling_initial"); got != 7.0 {
		t.Errorf("--set does not come last: sampling_initial %v", got)
	}
}

func TestValidateReadsStandardInput(t *testing.T) {
	good := "receivers: {otlp: {}}\nexporters: {nop: {}}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n"
	if o := runOnce(t, good, nil, "validate", "--config=-"); o.code != 0 || o.stdout+o.stderr != "" {
		t.Errorf("valid: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	refused(t, runOnce(t, strings.Replace(good, "nop: {}", "nap: {}", 1), nil, "validate", "--config=-", "--set", "service.pipelines.traces.exporters=[nap]"),
		`^stdin:2: error: exporters/nap: unknown type "nap" \(did you mean "nop"\?\)$`)
	o := runOnce(t, "exporters: {nap: {}}", nil, "validate", "--json", "--config=-")
	var verdict struct {
		Valid    bool
		Findings []struct {
			Severity, File, Text string
			Line                 int
		}
	}
	if err := json.Unmarshal([]byte(o.stdout), &verdict); err != nil {
		t.Fatal(err)
	}
	if o.code != 1 || verdict.Valid || len(verdict.Findings) == 0 || verdict.Findings[0].Severity != "error" || o.stderr != "" {
		t.Errorf("--json: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
}

// A script that calls the Collector by name finds Holdfast behind the link.
func TestLinkedAsTheCollectorItBehavesTheSame(t *testing.T) {
	link := filepath.Join(t.TempDir(), "otelcol-contrib")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	o := runProgram(t, link, "", nil, "validate", "--config", plainAt(t, "127.0.0.1"))
	if o.code != 0 || o.stdout+o.stderr != "" {
		t.Errorf("exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if o := runProgram(t, link, "", nil, "--version"); o.code != 0 || !strings.Contains(o.stdout, " version ") {
		t.Errorf("--version: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
}
