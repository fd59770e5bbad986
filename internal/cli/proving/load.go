// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package proving

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// NewLoad is the command that sends numbered telemetry.
func NewLoad() *cobra.Command {
	var o loadgen.Options
	var signals, headers []string
	cmd := &cobra.Command{
		Use:   "load --run NAME",
		Short: "Send numbered telemetry and note every answer",
		Long: `Load sends OTLP whose items are numbered, and notes every attempt and every answer in run.json and load-N.tsv of
--out, for "holdfast ledger verify" to judge. An answer that leaves open what happened (timeout, reset, 5xx) is met by
sending the same bytes again until they are acknowledged, for 10 minutes at most; --on-unknown drop gives up instead.
A second load with the same --run and --out goes on with producers of its own.

The last line on stdout is JSON: requests, items, items acked, partial, refused and unknown by the best answer of their
request, and p50, p99 and maximum of the answers that acknowledge, in milliseconds.`,
		Example: `  holdfast load --run outage-1 --to grpc://127.0.0.1:4317 --for 60s --rate 2000
  holdfast load --run big --to http://127.0.0.1:4318 --compression zstd --requests 100 --out /tmp/big

Exit codes: 0 everything ended acked, partial or refused; 1 wrong usage; 2 unknowns remain; 3 could not start.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := loadOptions(&o, signals, headers); err != nil {
				return err
			}
			return runLoad(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.To, "to", []string{"grpc://127.0.0.1:4317"}, "targets, producers take turns: grpc://, grpcs://, http://, "+
		"https:// or http+json:// HOST:PORT")
	f.StringSliceVar(&signals, "signals", []string{"traces", "logs", "metrics"}, "signals to send; metrics mix all five point kinds")
	f.IntVar(&o.Producers, "producers", 4, "producers per signal, each with a connection of its own")
	f.IntVar(&o.Inflight, "inflight", 1, "requests at once per producer")
	f.IntVar(&o.Requests, "requests", 0, "requests per producer (1000, unless --for is given)")
	f.DurationVar(&o.For, "for", 0, "how long to begin new requests")
	f.Float64Var(&o.Rate, "rate", 0, "items per second over all producers; 0: the next request follows the answer")
	f.IntVar(&o.Items, "items", 512, "items per request")
	f.IntVar(&o.ItemBytes, "item-bytes", 400, "mean padding per item, in bytes")
	f.StringVar(&o.Compression, "compression", "none", "none, gzip or zstd")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "of one attempt")
	f.StringVar(&o.OnUnknown, "on-unknown", ledger.ModeRetry, "retry or drop, after an answer that leaves it open what happened")
	f.IntVar(&o.PoisonEvery, "poison-every", 0, "mark every n-th item with holdfast.poison; 0: none")
	f.StringArrayVar(&headers, "header", nil, "header K=V to send along; may be repeated")
	f.StringVar(&o.CA, "ca", "", "file with the CA to trust")
	f.StringVar(&o.Cert, "cert", "", "file with a client certificate")
	f.StringVar(&o.Key, "key", "", "file with its key")
	f.BoolVar(&o.SkipVerify, "skip-verify", false, "trust any certificate")
	f.StringVar(&o.Run, "run", "", "name of the run, [a-z0-9-]{1,32} (required)")
	f.StringVar(&o.Dir, "out", "", "directory for notes (default ./RUN)")
	f.Uint64Var(&o.Seed, "seed", 0, "seed, written into run.json; 0: random")
	return cmd
}

func loadOptions(o *loadgen.Options, signals, headers []string) error {
	if err := item.ValidRun(o.Run); err != nil {
		return fmt.Errorf("--run is needed: %w", err)
	}
	if o.Dir == "" {
		o.Dir = o.Run
	}
	o.Signals = nil
	for _, word := range signals {
		s, ok := item.ParseSignal(word)
		if !ok {
			return fmt.Errorf("--signals %q: traces, logs or metrics is needed", word)
		}
		o.Signals = append(o.Signals, s)
	}
	for _, h := range headers {
		k, v, found := strings.Cut(h, "=")
		if !found || k == "" {
			return fmt.Errorf("--header %q: K=V is needed", h)
		}
		o.Headers = append(o.Headers, [2]string{k, v})
	}
	if o.ItemBytes == 0 {
		o.ItemBytes = -1 // none, where 0 would be the default
	}
	o.Versions = map[string]string{"holdfast": command.Version}
	o.Replay = replayLine(os.Args)
	return nil
}

// replayLine is the command line without the values of headers: they may be credentials.
func replayLine(args []string) string {
	var out []string
	for i, arg := range args {
		value, inline := strings.CutPrefix(arg, "--header=")
		switch {
		case inline:
			name, _, _ := strings.Cut(value, "=")
			arg = "--header=" + name + "=***"
		case i > 0 && args[i-1] == "--header":
			name, _, _ := strings.Cut(arg, "=")
			arg = name + "=***"
		}
		out = append(out, arg)
	}
	return strings.Join(out, " ")
}

func runLoad(cmd *cobra.Command, o loadgen.Options) error {
	ctx, cancel := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	p := &progress{out: cmd.ErrOrStderr()}
	o.Progress = p.count
	stop := p.start(ctx)
	sum, err := loadgen.Run(ctx, o)
	stop()
	if err != nil {
		return &command.ExitError{Code: exitCannotRun, Err: err}
	}
	line, err := json.Marshal(sum)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), string(line))
	if sum.Unknown > 0 {
		return &command.ExitError{Code: exitUnknown, Err: fmt.Errorf("%d items remain unknown", sum.Unknown)}
	}
	return nil
}

// progress tells how a load goes, on stderr.
type progress struct {
	out                             io.Writer
	acked, partial, unknown, refuse atomic.Uint64
}

func (p *progress) count(a ledger.Attempt, r ledger.Result) {
	n := a.Last - a.First + 1
	switch r.State {
	case ledger.Acked:
		p.acked.Add(n)
	case ledger.Partial:
		p.partial.Add(n)
	case ledger.Unknown:
		p.unknown.Add(n)
	case ledger.Refused:
		p.refuse.Add(n)
	}
}

// start begins to tell; the returned function ends it.
func (p *progress) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(command.ProgressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(p.out, "load: items by attempt: acked %d, partial %d, unknown %d, refused %d\n", p.acked.Load(),
					p.partial.Load(), p.unknown.Load(), p.refuse.Load())
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
