// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

const metricsPage = "../../docs/metrics.md"

// pageLine is a series as the page shows it.
type pageLine struct{ kind, labels, meaning string }

func (l pageLine) row(name string) string {
	return fmt.Sprintf("| `%s` | %s | %s | %s |", name, l.kind, l.labels, l.meaning)
}

var (
	helpLine = regexp.MustCompile(`^# HELP (\S+) (.*)$`)
	typeLine = regexp.MustCompile(`^# TYPE (\S+) (\S+)$`)
)

// described are the families of a process that has a component of every kind, as its metrics page tells them.
func described(t *testing.T) map[string]pageLine {
	t.Helper()
	dir := t.TempDir()
	pair := selfSigned(t, dir)
	doc := strings.Replace(everything(dir), `grpc: {endpoint: "127.0.0.1:0"}`,
		fmt.Sprintf(`grpc: {endpoint: "127.0.0.1:0", tls: {cert_file: %q, key_file: %q}}`, pair[0], pair[1]), 1)
	r := start(t, doc)
	defer r.stop(t)
	w := httptest.NewRecorder()
	telemetry.NewHandler(r.tel.Metrics, telemetry.Options{Detailed: true}).ServeHTTP(w,
		httptest.NewRequest(http.MethodGet, "/metrics", nil))
	out := map[string]pageLine{}
	labels := map[string]map[string]bool{}
	for line := range strings.Lines(w.Body.String()) {
		line = strings.TrimRight(line, "\n")
		if m := helpLine.FindStringSubmatch(line); m != nil {
			out[m[1]] = pageLine{meaning: m[2]}
			continue
		}
		if m := typeLine.FindStringSubmatch(line); m != nil {
			l := out[m[1]]
			l.kind = m[2]
			out[m[1]] = l
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && out[base].kind == "histogram" {
				name = base
			}
		}
		for _, l := range labelOf.FindAllStringSubmatch(m[2], -1) {
			if l[1] == "le" {
				continue
			}
			if labels[name] == nil {
				labels[name] = map[string]bool{}
			}
			labels[name][l[1]] = true
		}
	}
	for name, l := range out {
		l.labels = strings.Join(slices.Sorted(maps.Keys(labels[name])), ", ")
		out[name] = l
	}
	if len(out) < 100 {
		t.Fatalf("only %d families", len(out))
	}
	return out
}

// Whoever builds an alert finds every series on the page, with its labels, and nothing that is not shown.
func TestTheMetricsPageIsWhatAProcessShows(t *testing.T) {
	shown := described(t)
	for name, text := range lazySeries {
		if _, is := shown[name]; is {
			t.Errorf("%s is there from the start: take it off the list of those that come with their first event", name)
		}
		shown[name] = text
	}
	var rows []string
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		if strings.Contains(shown[name].meaning, "|") {
			t.Errorf("%s: a table cannot hold the meaning %q", name, shown[name].meaning)
		}
		rows = append(rows, shown[name].row(name))
	}
	text, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	head, table, ok := strings.Cut(string(text), "|---|---|---|---|\n")
	if !ok {
		t.Fatal("the page has no table")
	}
	if *update {
		if err := os.WriteFile(metricsPage, []byte(head+"|---|---|---|---|\n"+strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	there := strings.Split(strings.TrimSpace(table), "\n")
	for _, row := range rows {
		if !slices.Contains(there, row) {
			t.Errorf("the page lacks (go test ./internal/app -run MetricsPage -update):\n%s", row)
		}
	}
	for _, row := range there {
		if !slices.Contains(rows, row) {
			t.Errorf("the page has what nobody shows:\n%s", row)
		}
	}
	for _, m := range regexp.MustCompile(`"(holdfast_[a-z_]+[a-z])"`).FindAllStringSubmatch(sourceText(t, append(lazyDirs, "../telemetry", "../extension")...), -1) {
		if _, is := shown[m[1]]; !is {
			t.Errorf("%s stands in the sources and not on the page", m[1])
		}
	}
}

// lazySeries come with their first event, or with what a process here does not have.
var lazySeries = map[string]pageLine{
	"holdfast_config_info": {"gauge", "evidence, generation, sha256, source", "1 for the configuration that runs."},
}

func selfSigned(t *testing.T, dir string) [2]string {
	t.Helper()
	cert, key := keyPair(t)
	files := [2]string{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	for i, b := range [][]byte{cert, key} {
		if err := os.WriteFile(files[i], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// keyPair makes a certificate for localhost and its key.
func keyPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}
