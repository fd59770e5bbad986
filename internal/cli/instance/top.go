// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/status/screen"
	"github.com/holdfast-telemetry/holdfast/internal/terminal"
)

const (
	// topEvery is how often the instance is asked, unless --every says otherwise, and topLeast how often it may be.
	topEvery = time.Second
	topLeast = 100 * time.Millisecond
	// topEvents are how many events are asked for: more than a screen has lines.
	topEvents = 100
	// topPatience bounds one question, so that silence is seen soon.
	topPatience = 4 * time.Second
	// maxStatus bounds what is read of a status page.
	maxStatus = 16 << 20
	// ctrlC is the key that ends everything.
	ctrlC = 3
)

type topFlags struct {
	instanceFlags
	address string
	once    bool
	every   time.Duration
}

// NewTop is the command that shows a running instance as it goes.
func NewTop() *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the running instance on a terminal: verdict, flow, queues, events",
		Long: `Watch the running instance on a terminal: the verdict in plain words, where the data goes, every queue with its age, its
rates and when it will be full or empty, and what happened. It is the status page for whoever has a shell and no browser,
also over ssh. While nobody answers it says so, and since when; it comes back by itself.

Keys: q or Ctrl-C ends it. Without a terminal, or with --once, one frame is printed. $NO_COLOR is heeded; where the
locale is not UTF-8 only ASCII is shown.

The instance is asked over its admin socket, or with --address at its status page, on another machine too if the page is
served there.

` + whichInstance + `

Exit codes: 0; 4 no instance answers (--once, or no terminal).`,
		Example: `  holdfast top
  ssh -t gateway-1 holdfast top
  holdfast top --address http://localhost:13134
  holdfast top --once`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.every < topLeast {
				return fmt.Errorf("--every %s is too often (%s at least)", f.every, topLeast)
			}
			in, isFile := cmd.InOrStdin().(*os.File)
			out, toFile := cmd.OutOrStdout().(*os.File)
			if f.once || !isFile || !toFile || !terminal.Is(in) || !terminal.Is(out) {
				return f.printOnce(command.Context(cmd), cmd.OutOrStdout())
			}
			return f.watch(command.Context(cmd), in, out)
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.stateDir, "state-dir", "", "state directory of the instance (default: where one is found, see --help)")
	s.StringVar(&f.socket, "admin-socket", "", "socket of the instance (default STATE_DIR/admin.sock)")
	s.StringVar(&f.address, "address", "", "ask the status page at this URL instead, such as http://localhost:13134")
	s.BoolVar(&f.once, "once", false, "print one frame and end")
	s.DurationVar(&f.every, "every", topEvery, "how often the instance is asked")
	return cmd
}

// ask gets the status from wherever it is to come from.
func (f *topFlags) ask(ctx context.Context) (*status.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, topPatience)
	defer cancel()
	if f.address != "" {
		return f.askPage(ctx)
	}
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	var s status.Status
	if err := c.Get(ctx, fmt.Sprint("/status?events=", topEvents), &s); err != nil {
		return nil, asked(err)
	}
	return &s, nil
}

func (f *topFlags) askPage(ctx context.Context) (*status.Status, error) {
	url := strings.TrimRight(f.address, "/") + "/status.json"
	if !strings.Contains(f.address, "://") {
		url = "http://" + url
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("--address: %w", err)
	}
	away := func(err error) error {
		return &command.ExitError{Code: exitUnreachable, Err: &admin.UnreachableError{Tried: []string{url}, Err: err}}
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, away(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, maxStatus))
	if err != nil {
		return nil, away(err)
	}
	if r.StatusCode != http.StatusOK {
		return nil, away(errors.New(r.Status + ": " + command.Escape(strings.TrimSpace(string(text)))))
	}
	var s status.Status
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	return &s, nil
}

// looks are the options that the surroundings ask for.
func looks(colour bool) screen.Options {
	return screen.Options{Colour: colour && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", ASCII: !utf8Locale(os.Getenv)}
}

// utf8Locale reports whether characters beyond ASCII can be shown; where nothing is said they can.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return true
}

func (f *topFlags) printOnce(ctx context.Context, out io.Writer) error {
	s, err := f.ask(ctx)
	if err != nil {
		return err
	}
	file, isFile := out.(*os.File)
	isTerminal := isFile && terminal.Is(file)
	o := looks(isTerminal)
	o.Width, o.Now = 120, time.Now()
	if isTerminal {
		o.Width, _ = terminal.Size(file)
	}
	_, err = fmt.Fprintln(out, strings.Join(screen.Frame(s, o), "\n"))
	return err
}

// answer is what came of asking once.
type answer struct {
	status *status.Status
	at     time.Time
}

// watch shows frame after frame until somebody has seen enough.
func (f *topFlags) watch(ctx context.Context, in, out *os.File) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	resized := make(chan os.Signal, 1) // several at once are one
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	t, err := terminal.Open(in, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	answers := make(chan answer)
	asking := make(chan struct{})
	go func() { defer close(asking); f.keepAsking(ctx, answers) }()
	defer func() { stop(); <-asking }()
	v := &view{options: looks(true), heard: time.Now()}
	v.options.Hint = " q quits"
	for {
		v.options.Width, v.options.Height = t.Size()
		if err := t.Draw(v.frame(time.Now(), 3*f.every)); err != nil {
			return err
		}
		select {
		case a := <-answers:
			v.take(a)
		case <-resized:
		case key := <-t.Keys():
			if key == 'q' || key == 'Q' || key == ctrlC {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// keepAsking asks again and again; no answer is one too.
func (f *topFlags) keepAsking(ctx context.Context, answers chan<- answer) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		s, err := f.ask(ctx)
		if err != nil {
			s = nil // since when is what there is to say
		}
		select {
		case answers <- answer{s, time.Now()}:
		case <-ctx.Done():
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// view is what is known.
type view struct {
	options screen.Options
	status  *status.Status // the last one; nil = there was none
	heard   time.Time      // when it came
	silent  bool           // the last question had no answer
}

func (v *view) take(a answer) {
	if v.silent = a.status == nil; !v.silent {
		v.status, v.heard = a.status, a.at
	}
}

func (v *view) frame(now time.Time, patience time.Duration) []string {
	o := v.options
	o.Now = now
	if v.silent || now.Sub(v.heard) > max(patience, topPatience) {
		o.Silent = v.heard
	}
	return screen.Frame(v.status, o)
}
