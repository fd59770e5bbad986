// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// rules are what a browser may do with everything that comes from here: load from here, send nowhere, be framed by
// nobody, keep nothing.
func rules(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "+
		"object-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// known reports whether the page may be asked for by a Host header. A page elsewhere that wants to read this one makes a
// name of its own point here: names are therefore known ones. An address cannot be made to point anywhere.
func (p *Page) known(header string) bool {
	asked, own := hostOf(header), hostOf(p.set.Endpoint)
	if asked == "" {
		return false
	}
	for _, name := range p.set.Hosts {
		if strings.EqualFold(hostOf(name), asked) {
			return true
		}
	}
	if strings.EqualFold(asked, own) && own != "" {
		return true
	}
	at, err := netip.ParseAddr(asked)
	if err != nil {
		return strings.EqualFold(asked, "localhost") && (loopback(own) || everywhere(own))
	}
	return everywhere(own) || at.IsLoopback() && loopback(own)
}

// hostOf is the host of an address that may have a port; small letters, no brackets, no final dot.
func hostOf(address string) string {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func loopback(host string) bool {
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.IsLoopback()
}

func everywhere(host string) bool {
	at, err := netip.ParseAddr(host)
	return host == "" || err == nil && at.IsUnspecified()
}
