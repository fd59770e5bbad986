// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/confignet"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// Listener is a port that a configuration opens.
type Listener struct {
	Component string // kind/id; empty for the metrics of the process itself
	Purpose   string
	Network   string // tcp, tcp4, tcp6, unix
	Address   string
	TLS       bool
	ClientCA  bool   // clients must show a certificate
	Auth      string // the authenticator's ID; empty = everybody may talk
	Key       string // where the address is written, or would be
}

// Open reports whether anybody who reaches the port may use it, and reads or sends in the clear.
func (l *Listener) Open() bool { return !l.TLS && l.Auth == "" }

// checkListeners finds the ports that are opened, and refuses two on one address.
func (b *builder) checkListeners(p *Plan) {
	for _, kind := range []config.Kind{config.Receivers, config.Extensions} {
		for _, id := range b.used(kind) {
			if c := b.component(kind, id); c != nil && !c.Assumed {
				p.Listeners = append(p.Listeners, b.listenersOf(c)...)
			}
		}
	}
	b.checkPages(p.Listeners)
	p.Listeners = append(p.Listeners, b.metricsListeners()...)
	for i := range p.Listeners {
		if l := &p.Listeners[i]; b.checkAddress(l) {
			continue
		}
		for j := range i {
			if one, two := &p.Listeners[j], &p.Listeners[i]; clash(one, two) {
				b.note(config.Error, two.Component, two.Key, "", "%s is taken by %s", two.Address, owner(one))
				break
			}
		}
	}
	b.checkClients()
}

// maxSocketPath is what fits into a socket's address (unix(7)).
const maxSocketPath = 107

// checkAddress refuses what cannot be listened on, wherever it is tried; it reports whether it did.
func (b *builder) checkAddress(l *Listener) bool {
	bad := func(hint, format string, args ...any) bool {
		b.note(config.Error, l.Component, l.Key, hint, format, args...)
		return true
	}
	switch l.Network {
	case "unix":
		if len(l.Address) > maxSocketPath {
			return bad("", "socket %s: its path has more than %d bytes", l.Address, maxSocketPath)
		}
		return false
	case "", "tcp", "tcp4", "tcp6":
	default:
		return bad("tcp, tcp4, tcp6 or unix", "transport %q cannot be listened on", l.Network)
	}
	_, port, err := net.SplitHostPort(l.Address)
	if err != nil || strings.Contains(l.Address, "//") {
		return bad("HOST:PORT; a socket needs `transport: unix`", "%q is not an address", l.Address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return bad("0 to 65535, or a service's name", "%q is not a port", port)
	}
	if host, _, _ := net.SplitHostPort(l.Address); wildcard(host) && l.Open() && strings.HasPrefix(l.Component, "receivers/") {
		b.note(config.Warning, l.Component, l.Key, "", OpenToAll)
	}
	return false
}

// OpenToAll is the warning about a receiver that anybody may use who reaches this host (faults, part D, 1). The door says
// the same when it opens.
const OpenToAll = "listens on all addresses without TLS and without authentication"

// checkPages warns of a status page that others than this machine reach, and anybody may read.
func (b *builder) checkPages(all []Listener) {
	for i := range all {
		l := &all[i]
		host, _, err := net.SplitHostPort(l.Address)
		if l.Purpose != "status" || l.Network == "unix" || err != nil || !l.Open() || local(host) {
			continue
		}
		b.note(config.Warning, l.Component, l.Key, "serve it at localhost, and reach it through a tunnel: ssh -L 13134:localhost:13134 HOST",
			"whoever reaches %s reads the status: names and errors of backends, paths, what happened", l.Address)
	}
}

// local reports whether a host is this machine, for nobody else.
func local(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func owner(l *Listener) string {
	if l.Component == "" {
		return l.Purpose
	}
	return l.Component
}

// used lists the components of a kind that the service names, each once.
func (b *builder) used(kind config.Kind) []string {
	var ids []string
	add := func(list []string) {
		for _, id := range list {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if kind == config.Extensions {
		add(b.cfg.Service.Extensions)
		return ids
	}
	for i := range b.cfg.Service.Pipelines {
		p := &b.cfg.Service.Pipelines[i]
		if kind == config.Receivers {
			add(p.Receivers)
		} else {
			add(p.Exporters)
		}
	}
	return ids
}

// listenersOf finds the servers in a component's configuration.
func (b *builder) listenersOf(c *config.Component) []Listener {
	var found []Listener
	name := string(c.Kind) + "/" + c.ID
	server := func(key, purpose string, addr confignet.AddrConfig) *Listener {
		path := strings.Trim(strings.Join([]string{string(c.Kind), c.ID, key, "endpoint"}, "::"), ":")
		found = append(found, Listener{
			Component: name, Purpose: purpose, Network: string(addr.Transport), Address: addr.Endpoint,
			Key: strings.ReplaceAll(path, "::::", "::"),
		})
		return &found[len(found)-1]
	}
	purpose := strings.ReplaceAll(c.Type, "_", " ")
	squashed := map[string]bool{}
	config.Walk(c.Config, func(key string, v any) {
		switch v := v.(type) {
		case configgrpc.ServerConfig:
			squashed[key] = true
			l := server(key, "OTLP over gRPC in", v.NetAddr)
			if t := v.TLS.Get(); t != nil {
				l.TLS, l.ClientCA = true, t.ClientCAFile != ""
			}
			if a := v.Auth.Get(); a != nil {
				l.Auth = a.AuthenticatorID.String()
			}
		case confighttp.ServerConfig:
			squashed[key] = true
			if c.Kind == config.Receivers {
				purpose = "OTLP over HTTP in"
			}
			l := server(key, purpose, v.NetAddr)
			if t := v.TLS.Get(); t != nil {
				l.TLS, l.ClientCA = true, t.ClientCAFile != ""
			}
			if a := v.Auth.Get(); a != nil {
				l.Auth = a.Config.AuthenticatorID.String()
			}
		case confignet.AddrConfig:
			if !squashed[key] {
				server(key, purpose, v)
			}
		}
	})
	return found
}

// Defaults of the process's own metrics (compat, section 6).
const defaultMetricsPort = 8888

func (b *builder) metricsListeners() []Listener {
	m := &b.cfg.Service.Telemetry.Metrics
	if m.Level == "none" {
		return nil
	}
	const purpose, path = "metrics of this process", "service::telemetry::metrics"
	if len(m.Readers) == 0 {
		return []Listener{{Purpose: purpose, Network: "tcp", Address: address("localhost", defaultMetricsPort), Key: path}}
	}
	var found []Listener
	for i := range m.Readers {
		if m.Readers[i].Pull == nil || m.Readers[i].Pull.Exporter.Prometheus == nil {
			continue
		}
		r := m.Readers[i].Pull.Exporter.Prometheus
		host, port := r.Host, r.Port
		if host == "" {
			host = "localhost"
		}
		if port == 0 {
			port = defaultMetricsPort
		}
		found = append(found, Listener{
			Purpose: purpose, Network: "tcp", Address: address(host, port),
			Key: fmt.Sprintf("%s::readers::%d::pull::exporter::prometheus", path, i),
		})
	}
	return found
}

func address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// clash reports whether two listeners cannot both be opened. Port 0 is whatever is free.
func clash(a, b *Listener) bool {
	if a.Network == "unix" || b.Network == "unix" {
		return a.Network == b.Network && a.Address == b.Address
	}
	hostA, portA, errA := net.SplitHostPort(a.Address)
	hostB, portB, errB := net.SplitHostPort(b.Address)
	if errA != nil || errB != nil {
		return false
	}
	numberA, errA := net.LookupPort("tcp", portA)
	numberB, errB := net.LookupPort("tcp", portB)
	if errA != nil || errB != nil || numberA != numberB || numberA == 0 {
		return false
	}
	return wildcard(hostA) || wildcard(hostB) || loopback(hostA) == loopback(hostB)
}

// Taker is the listener that stands in the way of one on a TCP address, nil if none does.
func (p *Plan) Taker(address string) *Listener {
	one := &Listener{Network: "tcp", Address: address}
	for i := range p.Listeners {
		if clash(one, &p.Listeners[i]) {
			return &p.Listeners[i]
		}
	}
	return nil
}

func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func loopback(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return strings.ToLower(host)
	case ip.Unmap() == netip.AddrFrom4([4]byte{127, 0, 0, 1}):
		return "localhost"
	}
	return ip.Unmap().String()
}

// checkClients refuses what clients and servers ask of extensions that this build has not.
func (b *builder) checkClients() {
	for _, kind := range config.Kinds {
		for id, c := range b.cfg.Components[kind] {
			path := string(kind) + "::" + id
			config.Walk(c.Config, func(key string, v any) {
				switch v := v.(type) {
				case configauth.Config:
					b.note(config.Error, string(kind)+"/"+id, path+"::"+key+"::authenticator", "",
						"no authenticator %s: this build has no authentication extensions", v.AuthenticatorID)
				case configmiddleware.Config:
					b.note(config.Error, string(kind)+"/"+id, path+"::"+key, "",
						"no middleware %s: this build has no middleware extensions", v.ID)
				}
			})
		}
	}
}
