// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// act is one http.Server with its connections. A door that retires goes on with another one, so that it knows which
// connections are to end, and can cut them without touching those that came later.
type act struct {
	s       *Server
	server  *http.Server
	seat    net.Listener
	reading bodies
	guests  guests
	running atomic.Int64 // requests
	leaving atomic.Bool  // clients are asked to leave
	serving sync.WaitGroup
}

// inAct is the key of a connection's act in the context of its requests.
type inAct struct{}

func actOf(r *http.Request) *act {
	a, _ := r.Context().Value(inAct{}).(*act)
	return a
}

// begin serves the connections of ln. Nothing of it can fail.
func (s *Server) begin(ln net.Listener) *act {
	cfg := &s.cfg.ServerConfig
	a := &act{s: s, seat: ln}
	//lint:ignore SA1019 configurations that spell them the old way go on working
	keepAlive, idle := cfg.KeepAlivesEnabled, cfg.IdleTimeout
	if k := cfg.Keepalive.Get(); k != nil {
		keepAlive, idle = true, k.IdleTimeout
	}
	within := context.WithValue(context.Background(), inAct{}, a)
	a.server = &http.Server{
		Handler: s.handler, ReadTimeout: cfg.ReadTimeout, ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ConnState: a.guests.note, IdleTimeout: idle, MaxHeaderBytes: maxHeaderBytes, ErrorLog: log.New(errorLog{s.door}, "", 0),
		BaseContext: func(net.Listener) context.Context { return within },
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: streamWindow,
			MaxReceiveBufferPerConnection: connectionWindow, SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
		},
	}
	a.server.SetKeepAlivesEnabled(keepAlive)
	if s.tls != nil {
		ln = tls.NewListener(ln, s.tls)
	}
	a.serving.Go(func() {
		err := a.server.Serve(ln)
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.door.Log().Error("Serving OTLP over HTTP ended", zap.Error(err))
		}
	})
	return a
}

// farewell tells the client of an answer that its connection ends, if it does. It is called before the answer begins.
func (a *act) farewell(w http.ResponseWriter) {
	if a.leaving.Load() {
		w.Header()["Connection"] = closeHeader
	}
}

var closeHeader = []string{"close"}

// retire serves the connections on until their clients have left, and cuts them when ctx is done. net/http's Shutdown
// would close idle ones at once, and so would a change of keep-alives: a request on its way would be lost.
func (a *act) retire(ctx context.Context) error {
	a.leaving.Store(true)
	_ = a.seat.Close() // a seat's has no errors
	a.serving.Wait()   // whoever came is among the guests
	select {
	case <-a.guests.gone():
	case <-ctx.Done():
	}
	return a.stop(ctx)
}

// stop closes idle connections, lets running requests end until ctx does, and cuts the rest. It may be called by
// several at once, and ends for all of them as soon as for the most hurried.
func (a *act) stop(ctx context.Context) (err error) {
	defer time.AfterFunc(cutGrace, a.guests.cutSilent).Stop() // who has just connected may be about to speak
	if a.server.Shutdown(ctx) != nil {
		a.reading.cut()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
		a.server.Shutdown(grace) // until those that were cut have their answer
		cancel()
		a.server.Close() // ends the contexts of what still runs
		if !a.idle(cutGrace) {
			err = errors.New("requests still wait for their sink")
		}
	}
	a.serving.Wait()
	return err
}

// idle waits until no request runs, for a while.
func (a *act) idle(limit time.Duration) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(limit / 50)
	defer tick.Stop()
	for a.running.Load() > 0 {
		select {
		case <-end.C:
			return false
		case <-tick.C:
		}
	}
	return true
}
