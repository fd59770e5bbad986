// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// act is one grpc.Server with its connections. grpc-go says goodbye to all connections of a server or to none, and a
// server that has said it serves no more; so a door that retires goes on with another one.
type act struct {
	s        *Server
	server   *grpc.Server
	listener *listener
	reading  readers
	leave    sync.Once
	leaving  chan struct{} // closed when clients are asked to leave
	ended    chan struct{} // closed when they have, and no request runs
	unwatch  func()        // ends watch
	serving  sync.WaitGroup
	done     sync.WaitGroup
}

// begin serves the connections of ln. Nothing of it can fail.
func (s *Server) begin(ln net.Listener) *act {
	stop := make(chan struct{})
	a := &act{
		s: s, server: grpc.NewServer(s.opts...), listener: &listener{Listener: ln, secure: s.cfg.TLS.HasValue()},
		leaving: make(chan struct{}), ended: make(chan struct{}), unwatch: sync.OnceFunc(func() { close(stop) }),
	}
	for _, l := range s.lanes {
		a.server.RegisterService(describe(l.Signal, a), l)
	}
	a.server.RegisterService(&healthService, healthServer{s, a})
	a.done.Go(func() { a.watch(stop) })
	a.serving.Go(func() {
		err := a.server.Serve(a.listener)
		if err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
			s.door.Log().Error("Serving OTLP over gRPC ended", zap.Error(err))
		}
	})
	return a
}

// watch cuts streams whose message takes too long.
func (a *act) watch(stop <-chan struct{}) {
	tick := time.NewTicker(min(time.Second, a.s.bodyTimeout/4))
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			a.reading.cut(now.Add(-a.s.bodyTimeout), door.Slow(a.s.bodyTimeout))
		}
	}
}

// close asks the clients to leave, which is not heard by anybody before all have greeted, for which they have the time
// given. It returns when they have left and every request has ended, or cuts them when ctx is done. It may be called
// by several at once, and ends for all of them as soon as for the most hurried. Its listener gets nothing any more.
func (a *act) close(ctx context.Context, greetings time.Duration) (err error) {
	a.leave.Do(func() {
		close(a.leaving)
		go func() {
			_ = a.listener.Close()     // a seat's has no errors; it ends Accept, and with it Serve
			a.serving.Wait()           // whoever came is arriving
			a.listener.arriving.Wait() // and is not closed without a word
			a.server.GracefulStop()
			close(a.ended)
		}()
	})
	defer time.AfterFunc(greetings, func() { a.listener.cut(false) }).Stop()
	select {
	case <-a.ended:
	case <-ctx.Done():
		a.reading.cut(time.Now(), door.Stopping())
		if !within(a.ended, cutGrace) {
			a.listener.cut(true) // a greeting may have begun and not ended
			a.server.Stop()      // cancels the contexts of what still runs
			if !within(a.ended, cutGrace) {
				err = errors.New("requests still wait for their sink")
			}
		}
	}
	a.unwatch()
	a.serving.Wait()
	a.done.Wait()
	return err
}

// within reports whether ended closes in time.
func within(ended <-chan struct{}, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}
