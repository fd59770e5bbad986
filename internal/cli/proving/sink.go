// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package proving

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// NewSink is the command that is a backend which can be told what to do wrong.
func NewSink() *cobra.Command {
	var o mockbackend.Options
	cmd := &cobra.Command{
		Use:   "sink --name NAME",
		Short: "Be an OTLP backend that can be told what to do wrong",
		Long: `Sink receives OTLP over gRPC and HTTP, protobuf and JSON, gzip, zstd and snappy, and notes what arrived and what it
answered in sink-NAME.tsv of --out, for "holdfast ledger verify" to judge. SIGTERM or SIGINT ends it, with the end line of
its notes and its counters as JSON on stdout.

A fault is text, kind[:value][,key=value...]:
  refuse  blackhole  drop  hang  forget  no_compression  reset:accept|headers|body|answer  slow:D[..D2]
  status:CODE  partial:N|N%  reject_marked[:whole|part]  max_bytes:N  capacity:N[,burst=B,over=status|slow|reset]
  inflight:N  read_rate:N  write_rate:N  flap:UP/DOWN[,fault=KIND]  goaway:N  age:D
  tls:expired|wrong_name|unknown_ca|client_cert|old  answer:html|type|huge|endless|redirect|none
Keys for all: signals=traces+logs share=0.3 after=D for=D count=N store=true|false; status also retry_after=5s|-1s|1y|date.

Control (--control): GET /state, PUT|POST|DELETE /faults, POST /wait, GET /requests?last=20, POST /reset.`,
		Example: `  holdfast sink --name primary --grpc 127.77.0.1:4317 --control 127.77.0.1:9000 --out outage-1
  curl -X PUT --data '["refuse"]' http://127.77.0.1:9000/faults
  curl -X DELETE http://127.77.0.1:9000/faults

Exit codes: 0 ended by a signal; 1 wrong usage, or notes could not be written; 3 could not start.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.Name == "":
				return errors.New("--name is needed")
			case o.GRPC == "" && o.HTTP == "":
				return errors.New("--grpc or --http is needed")
			case (o.TLSCert == "") != (o.TLSKey == ""):
				return errors.New("--tls-cert and --tls-key belong together")
			case o.CountOnly && o.Dir != "":
				return errors.New("--count-only takes no notes: --out makes no sense with it")
			}
			return runSink(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "name of the sink in notes and verdicts (required)")
	f.StringVar(&o.GRPC, "grpc", "", "address for OTLP over gRPC")
	f.StringVar(&o.HTTP, "http", "", "address for OTLP over HTTP")
	f.StringVar(&o.Control, "control", "", "address for control: HOST:PORT on loopback, or unix:PATH")
	f.StringVar(&o.Dir, "out", "", "directory for notes; none are taken without it")
	f.StringArrayVar(&o.Faults, "fault", nil, "fault to begin with; may be repeated, the order counts")
	f.BoolVar(&o.TLS, "tls", false, "speak TLS with a certificate of the test CA, whose certificate is ca.pem in --out")
	f.StringVar(&o.TLSCert, "tls-cert", "", "file with a certificate")
	f.StringVar(&o.TLSKey, "tls-key", "", "file with its key")
	f.StringVar(&o.CA, "ca", "", "file with a CA; clients must show a certificate of it")
	f.BoolVar(&o.CountOnly, "count-only", false, "count items and take no notes")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the faults' choices")
	return cmd
}

func runSink(cmd *cobra.Command, o mockbackend.Options) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	b, err := mockbackend.Start(o)
	if err != nil {
		return &command.ExitError{Code: exitCannotRun, Err: err}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "sink %s: grpc=%s http=%s control=%s\n", o.Name, b.GRPCAddr(), b.HTTPAddr(), b.ControlAddr())
	if o.Dir == "" && !o.CountOnly {
		fmt.Fprintf(cmd.ErrOrStderr(), "sink %s: no --out: no notes are taken\n", o.Name)
	}
	select {
	case <-signals:
	case <-cmd.Context().Done():
	}
	state := b.State()
	err = b.Stop()
	line, jsonErr := json.Marshal(state)
	if jsonErr == nil {
		fmt.Fprintln(cmd.OutOrStdout(), string(line))
	}
	return errors.Join(err, jsonErr)
}
