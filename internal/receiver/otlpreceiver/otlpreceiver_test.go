// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpreceiver_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"

	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpreceiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// load reads a receiver's configuration as the configuration loader does.
func load(t *testing.T, text string) (*otlpreceiver.Config, error) {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	cfg := otlpreceiver.Factory().Default().(*otlpreceiver.Config)
	if err := confmap.NewFromStringMap(doc).Unmarshal(cfg); err != nil {
		return nil, err
	}
	return cfg, confmap.Validate(cfg)
}

func TestAProtocolRunsIfItsKeyIsThere(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "grpc http",
		"protocols: {grpc: }":                "grpc",
		"protocols: {http: }":                "http",
		"protocols: {grpc: , http: }":        "grpc http",
		"protocols: {grpc: {}}":              "grpc",
		"protocols: {http: {endpoint: a:1}}": "http",
	} {
		cfg, err := load(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		if cfg.Protocols.GRPC.HasValue() {
			got = append(got, "grpc")
		}
		if cfg.Protocols.HTTP.HasValue() {
			got = append(got, "http")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", text, got, want)
		}
	}
}

// Unknown keys below http are found by the configuration loader: confmap does not look for them beside squashed
// settings that unmarshal themselves.
func TestBadConfigurationsAreRefusedByKey(t *testing.T) {
	for text, want := range map[string]string{
		"protocols: {}":                                                 "`protocols` names none of grpc, http",
		"protocols: {thrift: }":                                         "thrift",
		"protocol: {grpc: }":                                            "protocol",
		"protocols: {grpc: {end_point: x}}":                             "end_point",
		"protocols:":                                                    "`protocols` names none of grpc, http",
		"protocols: {http: {keepalive: {idle: 1s}}}":                    "idle",
		"protocols: {grpc: {endpoint: ''}}":                             "`endpoint` must not be empty",
		"protocols: {http: {endpoint: ''}}":                             "`endpoint` must not be empty",
		"protocols: {grpc: {max_recv_msg_size_mib: 4096}}":              "`max_recv_msg_size_mib` 4096",
		"protocols: {http: {max_request_body_size: 9999999999}}":        "`max_request_body_size` 9999999999",
		"protocols: {http: {traces_url_path: /a, logs_url_path: /a}}":   "are both",
		"protocols: {grpc: {tls: {cert_file: a}}}":                      "key",
		"protocols: {grpc: {transport: carrier-pigeon}}":                "carrier-pigeon",
		"protocols: {http: {compression_algorithms: ['', gzip, lzma]}}": "lzma",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDefaultsAreTheOnesWeDocument(t *testing.T) {
	cfg, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	grpc, http := cfg.Protocols.GRPC.Get(), cfg.Protocols.HTTP.Get()
	if grpc.NetAddr.Endpoint != "localhost:4317" || http.ServerConfig.NetAddr.Endpoint != "localhost:4318" {
		t.Errorf("%s, %s", grpc.NetAddr.Endpoint, http.ServerConfig.NetAddr.Endpoint)
	}
	if grpc.MaxConcurrentStreams != 256 || grpc.ReadBufferSize != 512<<10 || grpc.MaxRecvMsgSizeMiB != 0 || grpc.IncludeMetadata {
		t.Errorf("%+v", grpc)
	}
	if s := http.ServerConfig; s.ReadTimeout != time.Minute || s.ReadHeaderTimeout != 10*time.Second || s.WriteTimeout != 30*time.Second {
		t.Errorf("%s, %s, %s", s.ReadTimeout, s.ReadHeaderTimeout, s.WriteTimeout)
	}
	if k := http.ServerConfig.Keepalive.Get(); k == nil || k.IdleTimeout != time.Minute {
		t.Errorf("%v", k)
	}
	if http.TracesURLPath != "/v1/traces" || http.MetricsURLPath != "/v1/metrics" || http.LogsURLPath != "/v1/logs" {
		t.Errorf("%+v", http)
	}
}

func TestWhatIsSetLeavesTheOtherDefaultsInPlace(t *testing.T) {
	cfg, err := load(t, `
protocols:
  grpc: {endpoint: "0.0.0.0:1", max_recv_msg_size_mib: 8, keepalive: {server_parameters: {max_connection_age: 5m}}}
  http: {endpoint: "0.0.0.0:2", idle_timeout: 5s, cors: {allowed_origins: [a]}}
`)
	if err != nil {
		t.Fatal(err)
	}
	grpc, http := cfg.Protocols.GRPC.Get(), cfg.Protocols.HTTP.Get()
	server := grpc.Keepalive.Get().ServerParameters.Get()
	if grpc.MaxRecvMsgSizeMiB != 8 || grpc.MaxConcurrentStreams != 256 || server.MaxConnectionAge != 5*time.Minute || server.Time != time.Minute {
		t.Errorf("%+v, %+v", grpc, server)
	}
	if http.ServerConfig.Keepalive.Get().IdleTimeout != 5*time.Second || http.ServerConfig.ReadTimeout != time.Minute {
		t.Errorf("%+v", http.ServerConfig)
	}
	if cfg, err = load(t, "protocols: {http: {keep_alives_enabled: false}}"); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 configurations that spell it the old way go on working
	if s := cfg.Protocols.HTTP.Get().ServerConfig; s.Keepalive.HasValue() || s.KeepAlivesEnabled {
		t.Errorf("keep-alives are on: %+v", s)
	}
}

func TestBothDoorsOpenOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg, err := load(t, "protocols: {grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '"+taken.Addr().String()+"'}}")
	if err != nil {
		t.Fatal(err)
	}
	sink := &receivertest.Sink{}
	r := otlpreceiver.New(receivertest.Settings(sink), cfg)
	if err := r.Start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "http: ") {
		t.Fatalf("%v", err)
	}
	if c, err := net.Dial("tcp", r.GRPC.Address().String()); err == nil {
		c.Close()
		t.Error("the gRPC door stays open")
	}
}

func TestListenersComeFromWhoHandsThemOver(t *testing.T) {
	cfg, err := load(t, "protocols: {grpc: {endpoint: 'one:1'}, http: {endpoint: 'two:2', transport: unix}}")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{}
	listen := func(_ context.Context, network, address string) (net.Listener, error) {
		asked[address] = network
		return net.Listen("tcp", "127.0.0.1:0")
	}
	set := receivertest.Settings(&receivertest.Sink{})
	set.Listen = listen
	made, err := otlpreceiver.Factory().New(set, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := made.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if asked["one:1"] != "tcp" || asked["two:2"] != "unix" {
		t.Errorf("%v", asked)
	}
}

func TestAnotherTypesConfigurationIsRefused(t *testing.T) {
	if _, err := otlpreceiver.Factory().New(receivertest.Settings(&receivertest.Sink{}), &struct{}{}); err == nil {
		t.Error("taken")
	}
}

func TestAUnixSocketIsServed(t *testing.T) {
	path := t.TempDir() + "/otlp.sock"
	cfg, err := load(t, "protocols: {http: {transport: unix, endpoint: '"+path+"'}}")
	if err != nil {
		t.Fatal(err)
	}
	r := otlpreceiver.New(receivertest.Settings(&receivertest.Sink{}), cfg)
	if err := r.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
