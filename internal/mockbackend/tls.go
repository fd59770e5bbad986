// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// certificates are what the test CA made at start issued: one good pair, and one for each fault.
type certificates struct {
	caPEM                 []byte
	pool                  *x509.CertPool
	good                  tls.Certificate
	expired, wrong, alien tls.Certificate
	clientCert, clientKey []byte // PEM
}

// authority is a CA that lives as long as its process.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	der  []byte
}

func newAuthority(name string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-48 * time.Hour),
		NotAfter: now.Add(30 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key, der: der}, err
}

// issue makes a certificate for names; it is valid until the given time.
func (a *authority) issue(names []string, from, until time.Time, usage x509.ExtKeyUsage) (tls.Certificate,
	*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{der, a.der}, PrivateKey: key}, key, err
}

func newCertificates(names []string, now time.Time) (*certificates, error) {
	ca, err := newAuthority("holdfast sink test CA", now)
	if err != nil {
		return nil, err
	}
	other, err := newAuthority("holdfast sink unknown CA", now)
	if err != nil {
		return nil, err
	}
	c := &certificates{pool: x509.NewCertPool()}
	c.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.der})
	c.pool.AddCert(ca.cert)
	from, until := now.Add(-time.Hour), now.Add(30*24*time.Hour)
	var errs [4]error
	c.good, _, errs[0] = ca.issue(names, from, until, x509.ExtKeyUsageServerAuth)
	c.expired, _, errs[1] = ca.issue(names, now.Add(-24*time.Hour), now.Add(-time.Hour), x509.ExtKeyUsageServerAuth)
	c.wrong, _, errs[2] = ca.issue([]string{"elsewhere.invalid"}, from, until, x509.ExtKeyUsageServerAuth)
	c.alien, _, errs[3] = other.issue(names, from, until, x509.ExtKeyUsageServerAuth)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	client, key, err := ca.issue([]string{"client"}, from, until, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	c.clientCert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: client.Certificate[0]})
	c.clientKey = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return c, err
}

// Certificates are what somebody else's door needs for a test: a server's certificate, one for its clients, and who issued
// both, PEM.
type Certificates struct{ CA, Cert, Key, ClientCert, ClientKey []byte }

// NewCertificates makes a test CA that lives as long as the call, and what it issues for names and addresses.
func NewCertificates(names ...string) (*Certificates, error) {
	c, err := newCertificates(names, time.Now())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.good.PrivateKey)
	if err != nil {
		return nil, err
	}
	return &Certificates{CA: c.caPEM, ClientCert: c.clientCert, ClientKey: c.clientKey,
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.good.Certificate[0]}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}

// makeTLS makes the certificates, and what TLS to speak when no fault is in force; nil: none.
func (b *Backend) makeTLS() (*certificates, *tls.Config, error) {
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, addr := range []string{b.o.GRPC, b.o.HTTP} {
		if host, _, err := net.SplitHostPort(addr); err == nil && host != "" && host != "localhost" {
			names = append(names, host)
		}
	}
	certs, err := newCertificates(names, time.Now())
	if err != nil {
		return nil, nil, err
	}
	if b.o.TLSCert == "" && !b.o.TLS {
		return certs, nil, nil
	}
	config := serverTLS(certs.good)
	if b.o.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(b.o.TLSCert, b.o.TLSKey)
		if err != nil {
			return nil, nil, err
		}
		config = serverTLS(pair)
	}
	if b.o.CA != "" {
		text, err := os.ReadFile(b.o.CA)
		if err != nil {
			return nil, nil, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("ca %q: no certificate in it", b.o.CA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return certs, config, nil
}

func serverTLS(pair tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
}

// secure puts TLS onto a connection if there is to be any; a fault says which.
func (b *Backend) secure(c *conn, r *rule) net.Conn {
	config := b.tls
	if r != nil {
		config = b.certs.spoilt(r.what().Value)
	}
	if config == nil {
		return c
	}
	if c.d.kind == "grpc" {
		config = config.Clone()
		config.NextProtos = []string{"h2"}
	}
	return tls.Server(c, config)
}

// spoilt is the configuration of a fault.
func (c *certificates) spoilt(kind string) *tls.Config {
	switch kind {
	case "expired":
		return serverTLS(c.expired)
	case "wrong_name":
		return serverTLS(c.wrong)
	case "unknown_ca":
		return serverTLS(c.alien)
	case "client_cert":
		config := serverTLS(c.good)
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, c.pool
		return config
	}
	config := serverTLS(c.good)
	config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 //nolint:gosec // that is the fault
	return config
}
