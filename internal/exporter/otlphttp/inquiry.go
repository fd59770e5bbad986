// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

const (
	// inquiryEvery is how often a server is asked what is wrong with our certificate.
	inquiryEvery = time.Second
	// inquiryWait is how long it may think about it.
	inquiryWait = time.Second
)

// inquiry finds out why a server that was shown our certificate ends the connection. In TLS 1.3 it says so after the
// handshake; by then a request is being written, and what is left of the alert may be a broken pipe. So a connection is
// made on which nothing is written.
type inquiry struct {
	mu struct {
		sync.Mutex
		at    time.Time
		alert string
	}
}

// alert is the server's word in the text of crypto/tls, empty if it has none. It takes inquiryWait and the time of a
// handshake at most; who asks while another does gets no answer.
func (q *inquiry) ask(ctx context.Context, c *certificates) (alert string) {
	addr, ok := c.shownTo.Load().(string)
	if !ok || addr == "" || !q.mu.TryLock() {
		return ""
	}
	defer q.mu.Unlock()
	if time.Since(q.mu.at) < inquiryEvery {
		return q.mu.alert
	}
	q.mu.alert = listen(ctx, c, addr)
	q.mu.at = time.Now()
	return q.mu.alert
}

func listen(ctx context.Context, c *certificates, addr string) string {
	dialer := &net.Dialer{Timeout: connectLimit}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	secure, err := c.handshake(ctx, conn, addr, []string{"http/1.1"}) // in HTTP/2 the server would talk first
	if err == nil {
		if err = secure.SetReadDeadline(time.Now().Add(inquiryWait)); err == nil {
			_, err = secure.Read(make([]byte, 1))
		}
	}
	if err == nil || !strings.Contains(err.Error(), wire.AlertText) {
		return ""
	}
	return err.Error()
}

// showing makes cfg note that our certificate was shown; what it returns says so once the handshake is over.
func showing(cfg *tls.Config) func() bool {
	give := cfg.GetClientCertificate
	if give == nil {
		return func() bool { return false }
	}
	shown := false // written by the handshake's goroutine, read after it
	cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		shown = true
		return give(info)
	}
	return func() bool { return shown }
}
