// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/cli"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// home is where the tests start; commands run where the seeds are, so that places are plain file names.
var home, _ = os.Getwd()

// seedFiles are the snippets the goldens are about, by the names the documentation gives them.
var seedFiles = map[string]string{
	"A-02": "000-02-pod-crash-recovery-with-persistent-queues.yaml",
	"A-05": "000-05-multi-backend-failover.yaml",
	"A-10": "000-10-health-monitoring-for-failover-decisions.yaml",
	"B-01": "001-01-configuring-dual-exporters.yaml",
	"B-02": "001-02-using-the-failover-connector.yaml",
}

// holdfast runs a command in the directory of the seeds. Warnings about this host's directories are left out: they
// depend on who runs the test.
func holdfast(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Chdir(filepath.Join(home, "../../test/compat/seeds"))
	var out, errs bytes.Buffer
	code = cli.Main(append([]string{"holdfast"}, args...), strings.NewReader(stdin), &out, &errs)
	return code, withoutHost(out.String()), withoutHost(errs.String())
}

func withoutHost(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "writable by this user") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func configs(names ...string) []string {
	var args []string
	for _, n := range names {
		args = append(args, "--config", seedFiles[n])
	}
	return args
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join(home, "testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestExplainSaysWhatTheSeedsWillDo(t *testing.T) {
	for name, files := range map[string][]string{
		"explain-A-02": {"A-02"}, "explain-A-05": {"A-05"}, "explain-B-01-B-02": {"B-01", "B-02"},
		"explain-A-02-A-10": {"A-02", "A-10"},
	} {
		code, stdout, stderr := holdfast(t, "", append([]string{"explain"}, configs(files...)...)...)
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit %d, stderr %s", name, code, stderr)
		}
		golden(t, name, stdout)
	}
}

func TestExplainIsOneDocumentInJSON(t *testing.T) {
	code, stdout, stderr := holdfast(t, "", append([]string{"explain", "--json",
		"--set", "extensions::file_storage/primary_queue::directory=./queue"}, configs("B-01", "B-02")...)...)
	if code != 0 || stderr != "" || !json.Valid([]byte(stdout)) {
		t.Fatalf("exit %d, stderr %s, stdout %s", code, stderr, stdout)
	}
	golden(t, "explain-B-01-B-02.json", stdout)
}

func TestValidatePrintsFindingsToStderrAndNothingElse(t *testing.T) {
	code, stdout, stderr := holdfast(t, "", append([]string{"validate"}, configs("A-02")...)...)
	if code != 0 || stdout != "" {
		t.Errorf("valid: exit %d, stdout %q", code, stdout)
	}
	if !strings.Contains(stderr, seedFiles["A-02"]+":9: note: extensions/file_storage/queue: max_file_size_mib caps ") {
		t.Errorf("stderr %s", stderr)
	}
}

func TestValidateExitsOneAndNamesEveryError(t *testing.T) {
	doc := "receivers: {otlp: }\nexporters:\n  otlp: {endpoit: x}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [otl]}}}\n"
	code, stdout, stderr := holdfast(t, doc, "validate", "--config=-")
	want := `stdin:3: error: exporters/otlp: unknown key "endpoit" (did you mean "endpoint"?)
stdin:4: error: exporter "otl" is not defined (did you mean "otlp"?)
`
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr\n%s", code, stdout, stderr)
	}
}

// Errors of the plan and of the document are told in one go.
func TestValidateNamesErrorsOfThePlanBesideThoseOfTheDocument(t *testing.T) {
	doc := `receivers: {otlp: }
exporters: {otlp: {endpoint: "a:1", tiemout: 5s}}
connectors: {failover: {priority_levels: [[otpl]]}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [failover]}}}
`
	code, _, stderr := holdfast(t, doc, "validate", "--config=-")
	want := `stdin:2: error: exporters/otlp: unknown key "tiemout" (did you mean "timeout"?)
stdin:3: error: connectors/failover: level 0: "otpl" is neither a pipeline nor an exporter (did you mean "otlp"?)
`
	if code != 1 || stderr != want {
		t.Errorf("exit %d, stderr\n%s", code, stderr)
	}
}

func TestValidateStrictMakesWarningsErrors(t *testing.T) {
	doc := "receivers: {otlp: }\nexporters: {otlp: {endpoint: \"a:1\", timeout: 5}}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}\n"
	if code, _, _ := holdfast(t, doc, "validate", "--config=-"); code != 0 {
		t.Errorf("a warning: exit %d", code)
	}
	if code, _, stderr := holdfast(t, doc, "validate", "--strict", "--config=-"); code != 1 || !strings.Contains(stderr, "error: exporters/otlp: `timeout`") {
		t.Errorf("strict: exit %d, %s", code, stderr)
	}
}

func TestValidateJSONIsTheDocumentedDocument(t *testing.T) {
	code, stdout, stderr := holdfast(t, "exporter: {}\n", "validate", "--json", "--config=-")
	var doc struct {
		Valid    *bool
		Hash     string
		Sources  []map[string]string
		Findings []map[string]any
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != 1 || stderr != "" {
		t.Fatalf("exit %d, %v, stderr %s", code, err, stderr)
	}
	if doc.Valid == nil || *doc.Valid || len(doc.Hash) != 64 || doc.Sources[0]["uri"] != "-" || doc.Sources[0]["sha256"] != doc.Hash {
		t.Errorf("document %s", stdout)
	}
	found := false
	for _, f := range doc.Findings {
		found = found || f["severity"] == "error" && f["line"] == 1.0 && f["column"] == 1.0 && f["file"] == "stdin" &&
			f["text"] == `unknown key "exporter"` && f["hint"] == `did you mean "exporters"?` && f["component"] == ""
	}
	if !found {
		t.Errorf("findings %v", doc.Findings)
	}
	code, stdout, _ = holdfast(t, "", "validate", "--json", "--config", "none.yaml")
	if code != 1 || !strings.Contains(stdout, "no such file") || !json.Valid([]byte(stdout)) {
		t.Errorf("an unreadable file: exit %d, %s", code, stdout)
	}
}

func TestFindingsCannotSteerATerminal(t *testing.T) {
	_, _, stderr := holdfast(t, "\"a\\x1b[2Jb\": 1\n", "validate", "--config=-")
	if strings.ContainsRune(stderr, 0x1b) || !strings.Contains(stderr, "unknown key") {
		t.Errorf("stderr %q", stderr)
	}
}

func TestPrintConfigMasksSecretsUnlessAsked(t *testing.T) {
	doc := "receivers: {otlp: }\nexporters: {otlp: {endpoint: \"a:1\", headers: {authorization: hunter2}}}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}\n"
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{}, false}, {[]string{"--mode", "unredacted"}, true}, {[]string{"--format", "json"}, false},
		{[]string{"--original"}, false}, {[]string{"--original", "--mode=unredacted", "--format=json"}, true},
	} {
		code, stdout, stderr := holdfast(t, doc, append([]string{"print-config", "--config=-"}, c.args...)...)
		if code != 0 || strings.Contains(stdout, "hunter2") != c.want || !strings.Contains(stdout, "a:1") {
			t.Errorf("%v: exit %d, stdout %s, stderr %s", c.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := holdfast(t, doc, "print-config", "--config=-", "--format=toml"); code != 1 || !strings.Contains(stderr, "toml") {
		t.Errorf("unknown format: exit %d, %s", code, stderr)
	}
}

func TestPrintConfigPrintsWhatIsInvalidOnlyWhenAsked(t *testing.T) {
	const doc = "exporters: {otlp: {nope: 1}}\n"
	if code, stdout, _ := holdfast(t, doc, "print-initial-config", "--config=-"); code != 1 || stdout != "" {
		t.Errorf("exit %d, stdout %s", code, stdout)
	}
	code, stdout, stderr := holdfast(t, doc, "print-config", "--validate=false", "--config=-")
	if code != 0 || stdout != "exporters:\n  otlp:\n    nope: 1\n" || !strings.Contains(stderr, "unknown key") {
		t.Errorf("exit %d, stdout %s, stderr %s", code, stdout, stderr)
	}
}

func TestComponentsListsTypesAsTheCollectorDoes(t *testing.T) {
	code, stdout, _ := holdfast(t, "", "components")
	for _, want := range []string{
		"buildinfo:\n    command: holdfast\n", "receivers:\n    - name: nop\n", "    - name: otlp_grpc\n      module: ",
		"      aliases: [otlp]\n      hosted: false\n", "        traces-to-traces: ", "        extension: ",
	} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, missing %q in\n%s", code, want, stdout)
		}
	}
	code, stdout, _ = holdfast(t, "", "components", "--json")
	var doc map[string]any
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != 0 || doc["exporters"] == nil {
		t.Errorf("exit %d, %v, %s", code, err, stdout)
	}
}

// Where data does not last, or others may delete it, is said where this host is the target, and only there.
func TestValidateHereWarnsOfDirectoriesWhereDataDoesNotLast(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { //nolint:gosec // that is what is warned of
		t.Fatal(err)
	}
	doc := fmt.Sprintf(`receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
exporters: {otlp: {endpoint: "127.0.0.1:1", sending_queue: {storage: file_storage}}}
extensions: {file_storage: {directory: %q}}
service: {extensions: [file_storage], telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}
`, open)
	if code, _, stderr := holdfast(t, doc, "validate", "--config=-"); code != 0 || strings.Contains(stderr, "everybody") {
		t.Errorf("without --here: exit %d, %s", code, stderr)
	}
	code, _, stderr := holdfast(t, doc, "validate", "--here", "--config=-")
	if want := fmt.Sprintf("stdin:3: warning: extensions/file_storage: %q may be written by everybody", open); code != 0 ||
		!strings.Contains(stderr, want) {
		t.Errorf("exit %d, stderr %q, want %q", code, stderr, want)
	}
	if err := os.Chmod(open, 0o750); err != nil { //nolint:gosec // the default
		t.Fatal(err)
	}
	if _, _, stderr := holdfast(t, doc, "validate", "--here", "--config=-"); strings.Contains(stderr, "everybody") {
		t.Errorf("said of a directory of one's own: %s", stderr)
	}
}

func TestValidateHereTriesThePorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	doc := fmt.Sprintf("receivers: {otlp: {protocols: {grpc: {endpoint: %q}}}}\nexporters: {debug: }\n"+
		"service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n",
		taken.Addr())
	if code, _, stderr := holdfast(t, doc, "validate", "--config=-"); code != 0 || strings.Contains(stderr, "in use") {
		t.Errorf("without --here: exit %d, %s", code, stderr)
	}
	code, _, stderr := holdfast(t, doc, "validate", "--here", "--config=-")
	want := fmt.Sprintf("stdin:1: warning: receivers/otlp: %s is in use, by this program if it runs already\n", taken.Addr())
	if code != 0 || stderr != want {
		t.Errorf("exit %d, stderr %q, want %q", code, stderr, want)
	}
	doc = strings.Replace(doc, taken.Addr().String(), "203.0.113.1:4317", 1)
	if code, _, stderr := holdfast(t, doc, "validate", "--here", "--config=-"); code != 1 || !strings.Contains(stderr, "error: receivers/otlp: listen tcp 203.0.113.1:4317") {
		t.Errorf("an address of another host: exit %d, %s", code, stderr)
	}
}
