// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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
	}
	return err
}

// alerts are what a server says when it refuses us, in the words of crypto/tls, and what to do about it.
var alerts = [...]struct{ text, hint string }{
	{"certificate required", "it wants a client certificate: `cert_file`, `key_file`"},
	{"bad certificate", "it wants another client certificate: `cert_file`, `key_file`"},
	{"unknown certificate authority", "it does not know who signed our client certificate"},
	{"expired certificate", "our client certificate is expired"},
	{"handshake failure", "it wants a client certificate, or other versions and ciphers than ours"},
	{"protocol version not supported", "it wants another version: `min_version`, `max_version`"},
}

// AlertText begins what crypto/tls says of an alert the other side sent.
const AlertText = "remote error: tls: "

// ExplainAlert adds to an error's text what an alert of the server means. Alerts may come late, when the library that
// reads them has made a text of them.
func ExplainAlert(text string) string {
	_, alert, ok := strings.Cut(text, AlertText)
	if !ok {
		return text
	}
	for _, a := range alerts {
		if strings.HasPrefix(alert, a.text) {
			return text + " (" + a.hint + ")"
		}
	}
	return text
}

// Asked makes cfg note whether the server wanted a client certificate and we had none; what it returns says so once the
// handshake is over. Where a server insists, the handshake succeeds all the same in TLS 1.3, and what fails after it may
// say no more than that a pipe is broken.
func Asked(cfg *tls.Config) func() bool {
	if cfg.GetClientCertificate != nil {
		return func() bool { return false }
	}
	var asked atomic.Bool
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked.Store(true)
		return &tls.Certificate{}, nil
	}
	return asked.Load
}

// AskedHint is what to add to the text of a failure after the server asked in vain.
const AskedHint = " (the server asked for a client certificate, and there is none: `cert_file`, `key_file`)"

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
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no name"
	}
	return Clip(strings.Join(all, ", "))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
