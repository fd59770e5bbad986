// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// The gRPC library cannot answer with what is no gRPC. While an `answer` fault is in force, connections to the gRPC door
// go to a plain HTTP/2 server: it gives the odd answers, and hands what the fault does not want to the library.

func (b *Backend) newOddServer(good *grpc.Server) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Protocols: &protocols, ConnContext: withConn, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.serveOdd(w, r, good) }),
	}
}

func (b *Backend) serveOdd(w http.ResponseWriter, r *http.Request, good *grpc.Server) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	signal, known := signalOfMethod(r.URL.Path)
	if c == nil || !known {
		good.ServeHTTP(w, r)
		return
	}
	raw, err := readAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	body, err := unframe(raw, r.Header.Get("Grpc-Encoding"))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	hit := b.oddFault(signal, body)
	if hit == nil {
		// The library would not find its connection in a context that is not its own.
		writeTrailers(w, b.oddExport(r, c, signal, raw, body))
		return
	}
	q := &call{conn: c, protocol: "grpc", signal: signal, wire: len(raw), body: body, compression: r.Header.Get("Grpc-Encoding"),
		headers: func() map[string]string { return mask(r.Header) }}
	content, err := b.read(q)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f := hit.what()
	o := &outcome{odd: f.Value, answer: f.Value}
	stored := f.Store != nil && *f.Store || hit.Store != nil && *hit.Store
	b.keep(q, &content, o, stored)
	b.answerOddly(w, r, c, f.Value, "application/grpc+proto")
}

// oddFault is the answer fault that wants a request, with its hit counted.
func (b *Backend) oddFault(signal item.Signal, body []byte) *rule {
	hash := func() float64 { return share01(b.o.Seed, body) }
	for _, r := range b.rules.all() {
		if r.what().Kind != "answer" {
			continue
		}
		if active, _ := r.active(time.Now()); active && r.for1(signal, hash) && r.hit() {
			return r
		}
	}
	return nil
}

// unframe takes the one message out of a gRPC request: a flag, a length of 4 bytes, the message.
func unframe(raw []byte, compression string) ([]byte, error) {
	if len(raw) < 5 || uint64(binary.BigEndian.Uint32(raw[1:]))+5 != uint64(len(raw)) {
		return nil, errors.New("a request is one message")
	}
	if raw[0] == 0 {
		return raw[5:], nil
	}
	return decompress(compression, false, raw[5:])
}

// oddListener serves the connections that a door diverts.
type oddListener struct {
	d    *door
	done chan struct{}
}

// Accept implements net.Listener.
func (l *oddListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.d.odd:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; the door closes itself.
func (l *oddListener) Close() error { return nil }

// Addr implements net.Listener.
func (l *oddListener) Addr() net.Addr { return l.d.addr }

// oddExport handles a request the fault does not want, and returns the frame and status to answer.
func (b *Backend) oddExport(r *http.Request, c *conn, signal item.Signal, raw, body []byte) (reply grpcReply) {
	q := &call{conn: c, protocol: "grpc", signal: signal, wire: len(raw), body: body, compression: r.Header.Get("Grpc-Encoding"),
		headers: func() map[string]string { return mask(r.Header) }}
	o, err := b.handle(r.Context(), q)
	if err != nil {
		return grpcReply{code: 3, message: err.Error()}
	}
	if o.release != nil {
		defer o.release()
	}
	if o.hang || o.reset || o.odd != "" {
		c.reset()
		panic(http.ErrAbortHandler)
	}
	return grpcReply{code: int(o.code), message: o.message, body: partialSuccess(o)}
}

// grpcReply is an answer of gRPC, as far as this server gives any.
type grpcReply struct {
	code    int
	message string
	body    []byte
}

func writeTrailers(w http.ResponseWriter, g grpcReply) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc+proto")
	h.Set("Trailer", "Grpc-Status, Grpc-Message")
	w.WriteHeader(http.StatusOK)
	if g.code == 0 {
		head := [5]byte{}
		binary.BigEndian.PutUint32(head[1:], uint32(len(g.body)))
		_, _ = w.Write(append(head[:], g.body...)) // the client is gone, or not
	}
	h.Set("Grpc-Status", fmt.Sprint(g.code))
	h.Set("Grpc-Message", g.message)
}
