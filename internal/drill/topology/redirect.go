// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// firstPort is where the ports of a redirected collector begin, on an address of its own.
const firstPort = 4300

// endpoints are the keys of an otlp_http block that hold a URL.
var endpoints = []string{"endpoint", "traces_endpoint", "metrics_endpoint", "logs_endpoint", "profiles_endpoint"}

// Place is where a configuration is led to.
type Place struct {
	Host     string            // a loopback address on which every port is free
	Dir      string            // an empty directory
	Backends map[string]string // HOST:PORT by exporter ID
	CA       string            // file: the authorities of the backends
	Cert     func(id string) (cert, key string)
	Hurry    bool
	// DoorCert and DoorKey are files that stand in for a door's own, DoorCA is whose certificates clients show there.
	DoorCert, DoorKey, DoorCA string
}

// Redirection is what has to be said on the command line, and what it makes of the configuration.
type Redirection struct {
	Sets    []string
	Doors   []string          // URLs for the load, by Topology.Doors
	Metrics string            // HOST:PORT
	Files   map[string]string // by exporter ID
	// Unchecked says that a door shows a certificate that the load cannot check.
	Unchecked bool
	// Replaced says what is not the user's any more, besides addresses and paths; Hurried which delays are shorter.
	Replaced, Hurried []string
}

// Redirect leads every listener, endpoint and path to the place.
func (t *Topology) Redirect(p Place) *Redirection {
	r := &Redirection{Files: map[string]string{}, Metrics: net.JoinHostPort(p.Host, "8888")}
	t.listeners(p, r)
	for _, b := range t.Backends {
		t.backend(p, r, b)
	}
	for i, f := range t.Files {
		r.Files[f.ID] = filepath.Join(p.Dir, "files", strconv.Itoa(i), "telemetry.jsonl")
		if name := filepath.Base(f.Path); strings.ContainsRune(name, '.') && !strings.ContainsAny(name, "*${}") {
			r.Files[f.ID] = filepath.Join(filepath.Dir(r.Files[f.ID]), name)
		}
		r.set("exporters::"+f.ID+"::path", r.Files[f.ID])
	}
	for i, s := range t.plan.Storages {
		for _, id := range s.IDs {
			r.set("extensions::"+id+"::directory", filepath.Join(p.Dir, "queue", strconv.Itoa(i)))
			r.set("extensions::"+id+"::create_directory", "true")
		}
	}
	r.set("service::telemetry::logs::output_paths", "[stderr]")
	r.set("service::telemetry::logs::encoding", "console")
	r.set("service::telemetry::logs::level", "info")
	t.probes(r)
	if p.Hurry {
		t.hurry(r)
	}
	return r
}

func (r *Redirection) set(key, value string) { r.Sets = append(r.Sets, key+"="+value) }

func (t *Topology) listeners(p Place, r *Redirection) {
	doors := map[int]string{}
	metrics := false
	for i := range t.plan.Listeners {
		l := &t.plan.Listeners[i]
		addr := net.JoinHostPort(p.Host, strconv.Itoa(firstPort+i))
		if l.Component == "" { // the process's own metrics
			if !metrics {
				t.metrics(r)
			}
			metrics = true
			continue
		}
		if l.Network == "unix" {
			addr = filepath.Join(p.Dir, fmt.Sprintf("door-%d.sock", i))
		}
		doors[i] = addr
		r.set(l.Key, addr)
		if base, ok := strings.CutSuffix(l.Key, "::endpoint"); ok && l.TLS {
			t.doorTLS(p, r, l.Component, base+"::tls::", l.ClientCA)
		}
	}
	if !metrics {
		t.metrics(r)
	}
	for _, d := range t.Doors {
		r.Doors = append(r.Doors, scheme[d.HTTP][d.TLS]+doors[d.listener])
	}
}

// scheme is how the load speaks to a door: over HTTP, with TLS.
var scheme = map[bool]map[bool]string{false: {false: "grpc://", true: "grpcs://"}, true: {false: "http://", true: "https://"}}

// doorTLS keeps a door's TLS and its settings. Its certificate stays if it can be read here: then the load does not check
// it, as it is for another name.
func (t *Topology) doorTLS(p Place, r *Redirection, component, key string, clients bool) {
	tls := t.at(strings.TrimSuffix(key, "::"))
	own := text(tls["cert_pem"]) != "" && text(tls["key_pem"]) != "" || readable(text(tls["cert_file"])) && readable(text(tls["key_file"]))
	if own {
		r.Unchecked = true
		r.replaced("%s: its certificate is used and not checked by those who send, since it is for another name", component)
	} else {
		for _, k := range []string{"cert_pem", "key_pem"} {
			if tls[k] != nil {
				r.set(key+k, "")
			}
		}
		r.set(key+"cert_file", p.DoorCert)
		r.set(key+"key_file", p.DoorKey)
		r.replaced("%s: shows a certificate of the drill's, its own cannot be read here", component)
	}
	if clients {
		if tls["client_ca_pem"] != nil {
			r.set(key+"client_ca_pem", "")
		}
		r.set(key+"client_ca_file", p.DoorCA)
		r.replaced("%s: asks for client certificates of the drill's authority, not of its own", component)
	}
}

// replaced says what is not the user's, once.
func (r *Redirection) replaced(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.Replaced, text) {
		r.Replaced = append(r.Replaced, text)
	}
}

// readable reports whether a file is there for us.
func readable(name string) bool {
	if name == "" {
		return false
	}
	f, err := os.Open(name)
	if err == nil {
		_ = f.Close() // it was only opened
	}
	return err == nil
}

// at is a block of the configuration by its path.
func (t *Topology) at(path string) map[string]any {
	block := t.cfg.Effective
	for _, k := range strings.Split(path, "::") {
		block, _ = block[k].(map[string]any)
	}
	return block
}

func (t *Topology) metrics(r *Redirection) {
	host, port, _ := net.SplitHostPort(r.Metrics)
	if t.cfg.Written("service::telemetry::metrics::readers") {
		r.set("service::telemetry::metrics::readers",
			fmt.Sprintf("[{pull: {exporter: {prometheus: {host: %s, port: %s}}}}]", host, port))
	} else {
		r.set("service::telemetry::metrics::address", r.Metrics)
	}
	if t.cfg.Service.Telemetry.Metrics.Level == "none" {
		r.set("service::telemetry::metrics::level", "normal")
		r.Replaced = append(r.Replaced, "service::telemetry::metrics::level: the ledger needs the collector's own books")
	}
}

func (t *Topology) backend(p Place, r *Redirection, b Backend) {
	key, block := "exporters::"+b.ID+"::", t.block(config.Exporters, b.ID)
	addr := p.Backends[b.ID]
	if !b.HTTP {
		r.set(key+"endpoint", addr)
	} else {
		base := "http://" + addr
		if b.TLS {
			base = "https://" + addr
		}
		for _, k := range endpoints {
			switch signal, own := strings.CutSuffix(k, "_endpoint"); {
			case block[k] == nil:
			case own && signal == "profiles":
				r.set(key+k, base+"/v1development/profiles")
			case own:
				r.set(key+k, base+"/v1/"+signal)
			default:
				r.set(key+k, base)
			}
		}
		if block["proxy_url"] != nil {
			r.set(key+"proxy_url", "")
			r.Replaced = append(r.Replaced, "exporters/"+b.ID+": proxy_url is left out")
		}
	}
	if !b.TLS {
		return
	}
	tls, _ := block["tls"].(map[string]any)
	for _, k := range slices.Sorted(maps.Keys(tls)) {
		switch k {
		case "ca_file", "ca_pem":
			r.set(key+"tls::ca_pem", "")
			r.set(key+"tls::ca_file", p.CA)
		case "server_name_override":
			r.set(key+"tls::server_name_override", "localhost")
		}
	}
	if b.ClientCert {
		cert, file := p.Cert(b.ID)
		r.set(key+"tls::cert_pem", "")
		r.set(key+"tls::key_pem", "")
		r.set(key+"tls::cert_file", cert)
		r.set(key+"tls::key_file", file)
		r.Replaced = append(r.Replaced, "exporters/"+b.ID+": shows a certificate of the drill's, not its own")
	}
}

// probes replaces what would ask the world whether a backend is well.
func (t *Topology) probes(r *Redirection) {
	for _, id := range t.Connectors() {
		c := t.connector(id)
		if c == nil {
			continue
		}
		key := "connectors::" + id + "::probe::"
		if outside(c.Probe.Kind, c.Probe.URL) {
			r.set(key+"kind", "empty")
			r.set(key+"url", "")
			r.Replaced = append(r.Replaced, "connectors/"+id+": probes are empty exports; the health address is not asked")
		}
		for _, e := range slices.Sorted(maps.Keys(c.Probe.Exporters)) {
			if k := c.Probe.Exporters[e]; outside(k.Kind, k.URL) {
				r.set(key+"exporters::"+e+"::kind", "empty")
				r.set(key+"exporters::"+e+"::url", "")
				r.Replaced = append(r.Replaced, "connectors/"+id+": "+e+" is probed by empty exports")
			}
		}
	}
}

func outside(kind, url string) bool {
	return url != "" || kind == "http" || kind == "tcp" || kind == "grpc_health"
}

// hurry shortens the delays that are made for days.
func (t *Topology) hurry(r *Redirection) {
	shorten := func(key string, is, most time.Duration) {
		if is > most {
			r.set(key, most.String())
			r.Hurried = append(r.Hurried, fmt.Sprintf("%s %s → %s", key, is, most))
		}
	}
	shorten("service::reload::trial", t.cfg.Service.Reload.Trial, time.Second)
	for _, id := range t.Connectors() {
		c := t.connector(id)
		if c == nil {
			continue
		}
		key := "connectors::" + id + "::"
		shorten(key+"retry_gap", c.RetryGap, 500*time.Millisecond)
		shorten(key+"retry_interval", c.RetryInterval, 2*time.Second)
		shorten(key+"all_down::probe_every", c.AllDown.ProbeEvery, time.Second)
		shorten(key+"return::ramp", c.Return.Ramp, time.Second)
		shorten(key+"return::hold_down", c.Return.HoldDown, 2*time.Second)
		shorten(key+"return::hold_down_max", c.Return.HoldDownMax, 4*time.Second)
		shorten(key+"backfill::after", c.Backfill.After, time.Second)
	}
	for _, b := range t.Backends {
		initial, most := t.retry(b.ID)
		key := "exporters::" + b.ID + "::retry_on_failure::"
		shorten(key+"initial_interval", initial, 500*time.Millisecond)
		shorten(key+"max_interval", most, 2*time.Second)
	}
}

func (t *Topology) retry(id string) (initial, most time.Duration) {
	for i := range t.plan.Pipelines {
		for _, d := range t.plan.Pipelines[i].Destinations {
			for _, l := range d.Levels {
				if slices.Contains(l.Exporters, id) {
					initial, most = max(initial, l.Retry.InitialInterval), max(most, l.Retry.MaxInterval)
				}
			}
		}
	}
	return initial, most
}
