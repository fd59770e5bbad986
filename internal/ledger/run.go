// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

const (
	runFile    = "run.json"
	faultsFile = "faults.jsonl"
	// ModeRetry and ModeDrop are what producers do about answers that leave it open what happened.
	ModeRetry = "retry"
	ModeDrop  = "drop"
)

// Run is run.json: what a run is and by what it is judged. Producers write it, Verify's options win over it.
type Run struct {
	Format    int      `json:"format"`
	Name      string   `json:"run"`
	Tag       string   `json:"tag"`
	BaseMicro int64    `json:"base_us"` // microseconds since 1970
	Seed      uint64   `json:"seed"`
	Signals   []string `json:"signals"`
	// Producers counts the producer numbers used so far, per signal.
	Producers map[string]int `json:"producers"`
	ItemBytes int            `json:"item_bytes"` // mean padding
	Mode      string         `json:"mode"`

	Want          string   `json:"want"` // any or each:a,b
	MaxDuplicates int64    `json:"max_duplicates"`
	Expect        []string `json:"expect,omitempty"`
	Allow         []string `json:"allow,omitempty"`
	AllowDrop     []string `json:"allow_drop,omitempty"`

	Versions map[string]string `json:"versions,omitempty"`
	Replay   string            `json:"replay,omitempty"` // the command line that repeats the load
}

// Base is the base time of the run.
func (r *Run) Base() time.Time { return time.UnixMicro(r.BaseMicro) }

// NewRun returns the description of a run that starts at base.
func NewRun(name string, base time.Time, seed uint64) (*Run, error) {
	if err := item.ValidRun(name); err != nil {
		return nil, err
	}
	return &Run{
		Format: 1, Name: name, Tag: fmt.Sprintf("%x", item.TagOf(name)), BaseMicro: base.UnixMicro(), Seed: seed,
		Producers: make(map[string]int), Mode: ModeRetry, Want: "any",
	}, nil
}

// ReadRun reads run.json of a directory; the error wraps fs.ErrNotExist if there is none.
func ReadRun(dir string) (*Run, error) {
	path := filepath.Join(dir, runFile)
	text, err := os.ReadFile(path) //nolint:gosec // the directory is the caller's
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	var r Run
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	if r.Format != 1 {
		return nil, fmt.Errorf("read %q: format %d is not known here", path, r.Format)
	}
	return &r, item.ValidRun(r.Name)
}

// Write writes run.json into dir, by rename.
func (r *Run) Write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, runFile), append(text, '\n'))
}

// JoinRun begins a run in dir, or goes on with the one of the same name that is there: a second producer process gets
// the base time of the first, and numbers after its producers. start gives the run as it should be if there is none.
// first is the number of the first new producer minus one, by signal.
func JoinRun(dir string, start *Run, signals []item.Signal, producers int) (r *Run, first map[item.Signal]int, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // notes are for everybody
		return nil, nil, fmt.Errorf("run: %w", err)
	}
	r, err = ReadRun(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = start
	case err != nil:
		return nil, nil, err
	case r.Name != start.Name:
		return nil, nil, fmt.Errorf("run: %q holds run %q already, not %q", dir, r.Name, start.Name)
	}
	if r.Producers == nil {
		r.Producers = make(map[string]int)
	}
	first = make(map[item.Signal]int)
	for _, s := range signals {
		word := s.String()
		first[s] = r.Producers[word]
		if r.Producers[word]+producers > item.MaxProducer {
			return nil, nil, fmt.Errorf("run: more than %d producers of %s", item.MaxProducer, word)
		}
		if r.Producers[word] == 0 {
			r.Signals = append(r.Signals, word)
		}
		r.Producers[word] += producers
	}
	return r, first, r.Write(dir)
}

func writeFile(path string, text []byte) error {
	tmp := fmt.Sprintf("%s.tmp%d", path, os.Getpid())
	if err := os.WriteFile(tmp, text, 0o644); err != nil { //nolint:gosec // notes are for everybody
		return fmt.Errorf("write: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("write: %w", err), os.Remove(tmp))
	}
	return nil
}

// Fault is one line of faults.jsonl: a fault that was injected, or an event of the harness such as a restart.
type Fault struct {
	T0    int64  `json:"t0"` // microseconds since 1970
	T1    int64  `json:"t1"`
	Where string `json:"where"` // a sink, a proxy, a victim
	Fault string `json:"fault"` // its text
	Hits  uint64 `json:"hits"`
}

// AppendFault adds a line to faults.jsonl of dir. Several processes may do so at once.
func AppendFault(dir string, f Fault) error { return appendLine(filepath.Join(dir, faultsFile), f) }

func appendLine(path string, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	out, err := openNotes(path, os.O_APPEND)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return errors.Join(err, out.Close())
}

// readLines calls visit for every complete line of a file of JSON lines; a missing file has none.
func readLines(path string, visit func(line []byte) error) error {
	text, err := os.ReadFile(path) //nolint:gosec // the directory is the caller's
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := visit([]byte(line)); err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	return nil
}
