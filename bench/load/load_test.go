// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package load_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/holdfast-telemetry/holdfast/bench/load"
	"github.com/holdfast-telemetry/holdfast/bench/sink"
)

func TestRequestsHaveTheSpansAndTheSizeTheyClaim(t *testing.T) {
	for _, spans := range []int{1, 10, 512} {
		requests, err := load.Requests(3, spans, load.Identity)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range requests {
			n, err := sink.Count(r)
			if err != nil || n != spans {
				t.Errorf("request %d of %d spans counts %d, %v", i, spans, n, err)
			}
			if request := ptraceotlp.NewExportRequest(); request.UnmarshalProto(r) != nil || request.Traces().SpanCount() != spans {
				t.Errorf("request %d of %d spans is not what the reference decoder takes", i, spans)
			}
			if over := len(r) - spans*load.SpanBytes; over < 0 || over > 600 {
				t.Errorf("request %d of %d spans has %d bytes, %d beside the spans", i, spans, len(r), over)
			}
			if i > 0 && bytes.Equal(r, requests[0]) {
				t.Error("two requests are equal")
			}
		}
	}
}

func TestWhatIsAcknowledgedIsWhatTheSinkCounts(t *testing.T) {
	for _, c := range []load.Options{
		{Spans: 10, InFlight: 4, Conns: 2},
		{Spans: 512, InFlight: 2, Encoding: load.Gzip},
		{Spans: 512, InFlight: 2, Encoding: load.Zstd},
		{Spans: 10, InFlight: 4, Rate: 20_000},
	} {
		s, err := sink.Start()
		if err != nil {
			t.Fatal(err)
		}
		l, err := load.New(s.Addr(), c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := l.Run(ctx); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		cancel()
		counts := l.Counts()
		if counts.Acked == 0 || counts.Acked != s.Items() || counts.Unknown != 0 || counts.Refused != 0 {
			t.Errorf("%+v: %+v, the sink has %d", c, counts, s.Items())
		}
		if most := int64(c.Rate/5) + int64(c.Spans*(c.InFlight+1)); c.Rate > 0 && counts.Acked > most {
			t.Errorf("rate %d: %d spans in 200 ms", c.Rate, counts.Acked)
		}
		l.Close()
		s.Stop()
	}
}

func TestARequestThatIsRefusedForGoodEndsTheRun(t *testing.T) {
	s, err := sink.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	l, err := load.NewBroken(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.Run(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("malformed requests: %v, %v", err, ctx.Err())
	}
}
