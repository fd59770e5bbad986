// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ExplainTLS says in words why a handshake failed, with what a person needs to repair it: since when a certificate is
// expired, which names it has, who signed it, or that a client certificate is missing. Other errors come back as they
// are. The cause stays reachable with errors.As.
func ExplainTLS(err error) error {
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		c, now := invalid.Cert, time.Now()
		if now.Before(c.NotBefore) {
			return explained{err, fmt.Sprintf("tls: certificate of %s is not valid before %s", subject(c), stamp(c.NotBefore))}
		}
		return explained{err, fmt.Sprintf("tls: certificate of %s expired at %s, %s ago",
			subject(c), stamp(c.NotAfter), now.Sub(c.NotAfter).Round(time.Second))}
	case errors.As(err, &host) && host.Certificate != nil:
		return explained{err, fmt.Sprintf("tls: certificate is for %s, not for %q", names(host.Certificate), host.Host)}
	case errors.As(err, &unknown) && unknown.Cert != nil:
		return explained{err, fmt.Sprintf("tls: certificate of %s is signed by an unknown authority (%s); name it in `ca_file`",
			subject(unknown.Cert), Clip(unknown.Cert.Issuer.String()))}
	case errors.As(err, &record):
		return explained{err, "tls: the server does not speak TLS here (or `tls: {insecure: true}` is missing)"}
	case errors.As(err, &alert):
		return explained{err, "tls: the server refuses us: " + alertText(alert)}
	}
	return err
}

// ExplainAlert is ExplainTLS for errors that are known by their text only.
func ExplainAlert(text string) string {
	for _, want := range []string{"certificate required", "bad certificate"} {
		if strings.Contains(text, "remote error: tls: "+want) {
			return text + " (the server wants a client certificate it trusts: `cert_file`, `key_file`)"
		}
	}
	return text
}

func alertText(a tls.AlertError) string {
	text := strings.TrimPrefix(a.Error(), "tls: ")
	switch uint8(a) {
	case 42, 116: // bad_certificate, certificate_required
		return text + " (it wants a client certificate it trusts: `cert_file`, `key_file`)"
	}
	return text
}

// explained is an error with a better text.
type explained struct {
	cause error
	text  string
}

func (e explained) Error() string { return e.text }

func (e explained) Unwrap() error { return e.cause }

func subject(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return fmt.Sprintf("%q", Clip(c.Subject.CommonName))
	}
	return names(c)
}

func names(c *x509.Certificate) string {
	all := make([]string, 0, len(c.DNSNames)+len(c.IPAddresses))
	for _, n := range c.DNSNames {
		all = append(all, n)
	}
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no name"
	}
	return Clip(strings.Join(all, ", "))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
