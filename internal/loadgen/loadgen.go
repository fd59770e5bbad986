// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package loadgen is a producer of numbered telemetry: what `holdfast load` runs, and what tests and the demo run in
// their own process.
//
// It stands before the front door, outside the product: it builds OTLP requests whose items carry an identity
// (ledger/item), sends them over gRPC or HTTP, notes every attempt before its first byte is sent and every answer after
// it came (ledger.Producer), and sends what stayed open again until it is acknowledged. It knows nothing of what
// becomes of the items.
package loadgen

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

const (
	defaultProducers = 4
	defaultInflight  = 1
	defaultItems     = 512
	defaultItemBytes = 400
	defaultRequests  = 1000
	defaultTimeout   = 10 * time.Second
	// retryFor is how long a request is sent again at most.
	retryFor = 10 * time.Minute
	// Waits between attempts; a hint of the server is obeyed up to maxHint.
	firstWait = 50 * time.Millisecond
	maxWait   = time.Second
	maxHint   = 30 * time.Second
)

// Options say what to send. The zero value of a field is its default.
type Options struct {
	Run     string   // name of the run, required
	Dir     string   // where notes go; empty: none are taken
	To      []string // grpc://, grpcs://, http://, https://, http+json://, https+json:// HOST:PORT; producers take turns
	Signals []item.Signal

	Producers int // per signal, each with a connection of its own; 4
	Inflight  int // requests at once per producer; 1
	// Requests per producer and For, from the start: whichever ends first. Both 0: 1000 requests.
	Requests int
	For      time.Duration
	// Stop, if set, ends the load when it is closed: nothing new begins, and what was begun gets its answer.
	Stop <-chan struct{}
	Rate float64 // items per second over all producers; 0: the next request follows the answer

	Items       int // per request; 512
	ItemBytes   int // mean padding per item; 400, negative: 0
	PoisonEvery int // every n-th item is marked; 0: none
	Compression string
	Timeout     time.Duration // of an attempt; 10 s
	OnUnknown   string        // ledger.ModeRetry (default) or ledger.ModeDrop

	Headers              [][2]string
	CA, Cert, Key        string // files
	CAPEM                []byte // in place of a CA file
	SkipVerify           bool
	Seed                 uint64    // 0: random
	Base                 time.Time // of a new run; zero: now
	Versions             map[string]string
	Replay               string   // written into run.json
	Want                 string   // written into run.json: how the run is to be judged
	Expect, Allow, Drops []string // written into run.json
	MaxDuplicates        int64    // written into run.json
	// Dial replaces the network, for in-memory listeners; addr is HOST:PORT as in To.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Progress, if set, is called after every answer; it must be quick and safe for concurrent use.
	Progress func(ledger.Attempt, ledger.Result)
	// Timed, if set, is told of every answer that acknowledges: when its attempt began, and how long it took. As Progress.
	Timed func(began time.Time, took time.Duration)
}

// Summary is what was sent and what became of it. Acked, Partial, Refused and Unknown count items by the best answer
// their request got; Partial counts all items of requests of which some were rejected. Times are those of answers that
// acknowledge, in milliseconds.
type Summary struct {
	Run      string  `json:"run"`
	Requests uint64  `json:"requests"`
	Items    uint64  `json:"items"`
	Acked    uint64  `json:"acked"`
	Partial  uint64  `json:"partial"`
	Refused  uint64  `json:"refused"`
	Unknown  uint64  `json:"unknown"`
	Attempts uint64  `json:"attempts"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	Seconds  float64 `json:"seconds"`
	Seed     uint64  `json:"seed"`
}

func (o *Options) complete() error {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Producers, defaultProducers)
	set(&o.Inflight, defaultInflight)
	set(&o.Items, defaultItems)
	set(&o.ItemBytes, defaultItemBytes)
	o.ItemBytes = max(o.ItemBytes, 0)
	if o.Requests == 0 && o.For == 0 && o.Stop == nil {
		o.Requests = defaultRequests
	}
	if o.Requests == 0 {
		o.Requests = math.MaxInt
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if len(o.Signals) == 0 {
		o.Signals = item.Signals[:]
	}
	if o.OnUnknown == "" {
		o.OnUnknown = ledger.ModeRetry
	}
	if o.Base.IsZero() {
		o.Base = time.Now()
	}
	if o.Seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:])                            // cannot fail
		o.Seed = binary.LittleEndian.Uint64(b[:])>>11 | 1 // exact in JSON
	}
	return o.check()
}

func (o *Options) check() error {
	if err := item.ValidRun(o.Run); err != nil {
		return err
	}
	if len(o.To) == 0 {
		return errors.New("load: no target")
	}
	if o.OnUnknown != ledger.ModeRetry && o.OnUnknown != ledger.ModeDrop {
		return fmt.Errorf("load: on unknown %q: retry or drop is needed", o.OnUnknown)
	}
	if o.Producers < 1 || o.Producers > item.MaxProducer || o.Inflight < 1 || o.Items < 1 || o.Items > 1_000_000 ||
		o.ItemBytes > item.MaxMeanPad || o.Rate < 0 || o.Requests < 0 {
		return errors.New("load: a number is out of range")
	}
	switch o.Compression {
	case "", "none", "gzip", "zstd":
	default:
		return fmt.Errorf("load: compression %q: none, gzip or zstd is needed", o.Compression)
	}
	for i, s := range o.Signals {
		if s.Index() < 0 || slices.Contains(o.Signals[:i], s) {
			return fmt.Errorf("load: signal %s is not known, or there twice", s)
		}
	}
	for _, to := range o.To {
		s, err := newSender(to, o)
		if err != nil {
			return err
		}
		s.Close()
	}
	return nil
}

// Run sends what o says and returns when every request has its end, or ctx is done. An error says that it could not
// start; what went wrong on the way is in the summary and the notes. Goroutines and connections are gone when it
// returns.
func Run(ctx context.Context, o Options) (Summary, error) {
	if err := o.complete(); err != nil {
		return Summary{}, err
	}
	l := &load{o: &o, began: time.Now(), notes: nobody{}}
	l.sum.Run, l.sum.Seed = o.Run, o.Seed
	var first map[item.Signal]int
	if o.Dir != "" {
		run, err := o.newRun()
		if err != nil {
			return Summary{}, err
		}
		if run, first, err = ledger.JoinRun(o.Dir, run, o.Signals, o.Producers); err != nil {
			return Summary{}, err
		}
		o.Base = run.Base()
		notes, err := ledger.CreateProducer(o.Dir, o.Run)
		if err != nil {
			return Summary{}, err
		}
		l.notes = notes
	}
	if o.For > 0 {
		l.until = l.began.Add(o.For)
	}
	err := l.produce(ctx, first)
	err = errors.Join(err, l.notes.Close())
	l.finish()
	return l.sum, err
}

func (o *Options) newRun() (*ledger.Run, error) {
	run, err := ledger.NewRun(o.Run, o.Base, o.Seed)
	if err != nil {
		return nil, err
	}
	run.ItemBytes, run.Mode, run.Replay = o.ItemBytes, o.OnUnknown, o.Replay
	if o.Want != "" {
		run.Want = o.Want
	}
	run.Expect, run.Allow, run.AllowDrop, run.MaxDuplicates = o.Expect, o.Allow, o.Drops, o.MaxDuplicates
	run.Versions = map[string]string{"go": runtime.Version()}
	for k, v := range o.Versions {
		run.Versions[k] = v
	}
	return run, nil
}

// load is one Run.
type load struct {
	o     *Options
	notes notes
	began time.Time
	until time.Time // zero: no end by time
	pace  pacer

	mu    sync.Mutex // guards sum and times
	sum   Summary
	times timing
}

// notes is what load asks of a ledger.Producer.
type notes interface {
	Invoked(ledger.Attempt)
	Ended(ledger.Attempt, ledger.Result)
	Close() error
}

// nobody takes no notes.
type nobody struct{}

func (nobody) Invoked(ledger.Attempt)              {}
func (nobody) Ended(ledger.Attempt, ledger.Result) {}
func (nobody) Close() error                        { return nil }

// produce runs all producers.
func (l *load) produce(ctx context.Context, first map[item.Signal]int) error {
	var producers []*producer
	defer func() {
		for _, p := range producers {
			p.sender.Close()
		}
	}()
	for n := range l.o.Producers {
		for i, s := range l.o.Signals {
			to := l.o.To[(n*len(l.o.Signals)+i)%len(l.o.To)]
			sender, err := newSender(to, l.o)
			if err != nil {
				return err
			}
			producers = append(producers, newProducer(l, s, uint16(first[s]+n+1), sender))
		}
	}
	var wg sync.WaitGroup
	for _, p := range producers {
		for range l.o.Inflight {
			wg.Go(func() { p.run(ctx) })
		}
	}
	wg.Wait()
	return nil
}

func (l *load) finish() {
	l.sum.P50, l.sum.P99, l.sum.Max = l.times.quantile(0.5), l.times.quantile(0.99), l.times.max
	l.sum.Seconds = math.Round(time.Since(l.began).Seconds()*1000) / 1000
}

// pacer hands out moments to send at, so that items flow at a rate.
type pacer struct {
	mu   sync.Mutex
	next time.Time
}

// wait waits until the next request of n items is due; false if ctx is done before. Who falls behind catches up.
func (p *pacer) wait(ctx context.Context, rate float64, n int) bool {
	if rate <= 0 {
		return ctx.Err() == nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.IsZero() {
		p.next = now
	}
	at := p.next
	p.next = p.next.Add(time.Duration(float64(n) / rate * float64(time.Second)))
	p.mu.Unlock()
	return sleep(ctx, at.Sub(now))
}

// sleep waits for d; false if ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// timing counts durations in buckets of about 4 percent.
type timing struct {
	buckets [512]uint64
	count   uint64
	max     float64 // milliseconds
}

const bucketsPerDouble = 16

func (t *timing) add(d time.Duration) {
	ms := float64(d) / float64(time.Millisecond)
	i := int(math.Log2(max(ms, 1e-3)*1e3) * bucketsPerDouble)
	t.buckets[min(max(i, 0), len(t.buckets)-1)]++
	t.count++
	t.max = max(t.max, math.Round(ms*1000)/1000)
}

// quantile is the upper edge of the bucket that holds the q-quantile, in milliseconds, but never above the maximum.
func (t *timing) quantile(q float64) float64 {
	left := uint64(math.Ceil(q * float64(t.count)))
	for i, n := range t.buckets {
		if n >= left && t.count > 0 {
			edge := math.Exp2(float64(i+1)/bucketsPerDouble) / 1e3
			return min(math.Round(edge*1000)/1000, t.max)
		}
		left -= min(n, left)
	}
	return 0
}
