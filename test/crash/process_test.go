// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// process is a child as its parent sees it.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.WriteCloser
	story   *story // may be nil
	started time.Time
	done    chan struct{} // closed when it has ended and all it said is known
	endedAt int64         // in ticks
	errors  bytes.Buffer  // its standard error; read after done

	mu    sync.Mutex
	said  []string // lines that the story has no use for
	more  chan struct{}
	last  string // acknowledgement or refusal
	found map[string]map[int]queue.Seq
	syncs []syncing
}

// syncing is one sync of a segment.
type syncing struct {
	file       string
	start, end int64 // end: 0 = not known to have ended
	ok         bool
}

// launch runs a child by o; it is killed when the test ends.
func launch(t *testing.T, o order, s *story, change ...func(*exec.Cmd)) *process {
	t.Helper()
	if s != nil {
		o.First = s.begin(o.Appenders)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, story: s, done: make(chan struct{}), more: make(chan struct{}), started: time.Now()}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), orderMark+"="+string(text))
	p.cmd.Stderr = &p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for _, c := range change {
		c(p.cmd)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.listen(out)
	index := launched(t)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && index+3 > launchedBy(t) {
			t.Logf("process %d said\n%s\n%s", p.cmd.Process.Pid, p.tail(60), p.errors.String())
		}
	})
	return p
}

// launches counts the processes of each test: when it fails, the last ones are heard.
var launches = struct {
	sync.Mutex
	of map[*testing.T]int
}{of: map[*testing.T]int{}}

func launched(t *testing.T) int {
	launches.Lock()
	defer launches.Unlock()
	launches.of[t]++
	return launches.of[t]
}

func launchedBy(t *testing.T) int {
	launches.Lock()
	defer launches.Unlock()
	return launches.of[t]
}

// listen takes in what the child says until it has ended.
func (p *process) listen(out io.Reader) {
	defer close(p.done)
	in := bufio.NewScanner(out)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		p.hear(in.Text())
	}
	err := p.cmd.Wait()
	p.endedAt = ticks()
	if p.story != nil {
		p.story.end(p.endedAt)
	}
	p.hear(fmt.Sprintf("ended %v", err))
}

func (p *process) hear(line string) {
	word, rest, _ := strings.Cut(line, " ")
	if p.story != nil && p.story.hear(line) {
		if word == "s" || word == "S" {
			p.sync(word, rest)
		}
		if word != "a" && word != "x" {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch word {
	case "a", "x":
		p.last = line
	case "found":
		var name string
		var n int
		var seq queue.Seq
		if _, err := fmt.Sscan(rest, &name, &n, &seq); err == nil {
			if p.found == nil {
				p.found = map[string]map[int]queue.Seq{}
			}
			if p.found[name] == nil {
				p.found[name] = map[int]queue.Seq{}
			}
			p.found[name][n] = seq
		}
		return
	case "told": // everything; what comes now happens later
		if p.story != nil {
			p.story.judge(p.found)
		}
		p.said = append(p.said, line)
	default:
		p.said = append(p.said, line)
	}
	close(p.more)
	p.more = make(chan struct{})
}

func (p *process) sync(word, rest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s syncing
	if word == "s" {
		if _, err := fmt.Sscan(rest, &s.file, &s.start); err == nil {
			p.syncs = append(p.syncs, s)
		}
		return
	}
	if _, err := fmt.Sscan(rest, &s.file, &s.start, &s.end, &s.ok); err != nil {
		return
	}
	for i := len(p.syncs) - 1; i >= 0; i-- {
		if o := &p.syncs[i]; o.file == s.file && o.end == 0 {
			*o = s
			return
		}
	}
}

// heard returns the first line from index on that begins so, without its beginning, and the index behind it; -1: none.
func (p *process) heard(prefix string, from int) (string, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := from; i < len(p.said); i++ {
		if rest, ok := strings.CutPrefix(p.said[i], prefix); ok {
			return strings.TrimSpace(rest), i + 1
		}
	}
	return "", -1
}

// mark is the place up to which p has spoken.
func (p *process) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.said)
}

// await waits for a line that begins so, after the mark, and returns the rest of it.
func (p *process) await(prefix string, mark ...int) string {
	p.t.Helper()
	rest, err := p.hope(prefix, patience, mark...)
	if err != nil {
		p.t.Fatal(err)
	}
	return rest
}

// hope is await that may be disappointed.
func (p *process) hope(prefix string, limit time.Duration, mark ...int) (string, error) {
	from := 0
	if len(mark) > 0 {
		from = mark[0]
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		p.mu.Lock()
		more := p.more
		p.mu.Unlock()
		if rest, at := p.heard(prefix, from); at >= 0 {
			return rest, nil
		}
		select {
		case <-more:
		case <-timer.C:
			return "", fmt.Errorf("process %d did not say %q within %s", p.cmd.Process.Pid, prefix, limit)
		case <-p.done:
			if rest, at := p.heard(prefix, from); at >= 0 {
				return rest, nil
			}
			return "", fmt.Errorf("process %d ended without saying %q: %s\n%s", p.cmd.Process.Pid, prefix, p.tail(5), p.errors.String())
		}
	}
}

// opened waits until the journal is open.
func (p *process) opened() opened {
	p.t.Helper()
	return p.sum(p.await("open "))
}

func (p *process) sum(text string) (o opened) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	return o
}

// show asks for the journal's state and books.
func (p *process) show() (state string, o opened) {
	p.t.Helper()
	mark := p.mark()
	p.tell("show")
	state = p.await("state ", mark)
	return state, p.sum(p.await("show ", mark))
}

// acks waits until so many records are acknowledged, from now on.
func (p *process) acks(n int) {
	p.t.Helper()
	p.awaitMore(n, "acknowledged", func(t tally) int { return t.acked })
}

// refusals likewise.
func (p *process) refusals(n int) {
	p.t.Helper()
	p.awaitMore(n, "refused", func(t tally) int { return t.refused })
}

// resolves likewise.
func (p *process) resolves(n int) {
	p.t.Helper()
	p.awaitMore(n, "resolved", func(t tally) int { return t.resolved })
}

func (p *process) awaitMore(n int, what string, of func(tally) int) {
	p.t.Helper()
	start := of(p.story.count())
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for of(p.story.count()) < start+n {
		select {
		case <-tick.C:
		case <-p.done:
			p.t.Fatalf("process %d ended; %d of %d records were %s", p.cmd.Process.Pid, of(p.story.count())-start, n, what)
		case <-limit.C:
			p.mu.Lock()
			last := p.last
			p.mu.Unlock()
			p.t.Fatalf("not within %s: %d records %s; %d are; last: %s", patience, n, what, of(p.story.count())-start, last)
		}
	}
}

// tell says a word to the child.
func (p *process) tell(word string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, word); err != nil {
		p.t.Fatalf("process %d does not listen: %v", p.cmd.Process.Pid, err)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill is kill -9, and waits for the end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
	_ = p.in.Close()
}

// killed says whether it ended as by kill -9 and not by itself.
func (p *process) killed() bool {
	<-p.done
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// exit waits until the child ends by itself and returns its exit code; -1 = by a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("process %d still runs after %s", p.cmd.Process.Pid, patience)
	}
	_ = p.in.Close()
	return p.cmd.ProcessState.ExitCode()
}

// close ends the child in order.
func (p *process) close() {
	p.t.Helper()
	p.tell("close")
	err := p.await("closed ")
	if code := p.exit(); code != 0 || err != "-" {
		p.t.Errorf("exit code %d, %s\n%s", code, err, p.errors.String())
	}
}

// alarms are the events worth waking somebody for.
func (p *process) alarms() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.said {
		if strings.HasPrefix(line, "event 2 ") {
			list = append(list, line)
		}
	}
	return list
}

// complaints are what the child found wrong by itself.
func (p *process) complaints() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.said {
		if strings.HasPrefix(line, "wrong ") {
			list = append(list, line)
		}
	}
	return list
}

// tail is the end of what it said.
func (p *process) tail(lines int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, line := range p.said[max(0, len(p.said)-lines):] {
		b.WriteString("\t" + line[:min(len(line), 600)] + "\n")
	}
	return b.String()
}

var errNotKilled = errors.New("the process ended by itself")
