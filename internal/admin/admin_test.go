// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
)

type greeting struct {
	Name string `json:"name"`
}

// serve starts a door with a route that greets and one that waits.
func serve(t *testing.T, path string) *admin.Server {
	t.Helper()
	s := admin.NewServer(zap.NewNop())
	s.Handle(admin.Route{Method: http.MethodPost, Path: "/greet", Handle: func(_ context.Context, r *admin.Request) (any, error) {
		var in greeting
		if err := r.Decode(&in); err != nil {
			return nil, err
		}
		if in.Name == "nobody" {
			return nil, admin.Refuse(http.StatusNotFound, "nobody is %q", in.Name)
		}
		return greeting{"hello " + in.Name + r.Query.Get("mark")}, nil
	}})
	s.Handle(admin.Route{
		Method: http.MethodGet, Path: "/wait", Timeout: 50 * time.Millisecond,
		Handle: func(ctx context.Context, _ *admin.Request) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	if err := s.Start(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *admin.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func socket(t *testing.T) string { return filepath.Join(t.TempDir(), admin.SocketName) }

func TestARouteAnswersAndRefuses(t *testing.T) {
	path := socket(t)
	serve(t, path)
	c, err := admin.Find([]string{filepath.Join(t.TempDir(), "none"), path})
	if err != nil {
		t.Fatal(err)
	}
	var out greeting
	if err := c.Post(t.Context(), "/greet?mark=!", greeting{"you"}, &out); err != nil || out.Name != "hello you!" {
		t.Errorf("got %q, %v", out.Name, err)
	}
	for _, tc := range []struct {
		name, path string
		in         any
		code       int
		text       string
	}{
		{"a refusal keeps its code and words", "/greet", greeting{"nobody"}, 404, `nobody is "nobody"`},
		{"an unknown key is refused", "/greet", map[string]int{"nmae": 1}, 400, "nmae"},
		{"a body that is too long is refused", "/greet", greeting{strings.Repeat("x", 1<<20)}, 413, "too large"},
		{"an unknown path is refused", "/gret", greeting{}, 404, "not found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var e *admin.Error
			if err := c.Post(t.Context(), tc.path, tc.in, nil); !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Text, tc.text) {
				t.Errorf("got %v, want code %d and %q", err, tc.code, tc.text)
			}
		})
	}
	var e *admin.Error
	if err := c.Get(t.Context(), "/wait", nil); !errors.As(err, &e) || e.Code != 500 || !strings.Contains(e.Text, "deadline") {
		t.Errorf("a route that takes too long: %v", err)
	}
}

func TestOnlyTheOwnerGetsIn(t *testing.T) {
	path := socket(t)
	serve(t, path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	others, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(others) != 1 {
		t.Errorf("beside the socket there are %v, %v", others, err)
	}
}

func TestASocketOfADeadProcessIsReplaced(t *testing.T) {
	path := socket(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var away *admin.UnreachableError
	if _, err := admin.Find([]string{path}); !errors.As(err, &away) || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("asking a dead process: %v", err)
	}
	serve(t, path)
	if err := admin.NewClient(path).Post(t.Context(), "/greet", greeting{"you"}, nil); err != nil {
		t.Error(err)
	}
}

func TestASocketOfALivingProcessIsLeftAlone(t *testing.T) {
	path := socket(t)
	serve(t, path)
	second := admin.NewServer(zap.NewNop())
	if err := second.Start(path); !errors.Is(err, admin.ErrInUse) {
		t.Errorf("second start: %v", err)
	}
	stop(t, second)
	if err := admin.NewClient(path).Post(t.Context(), "/greet", greeting{"you"}, nil); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

func TestAFileOfTheNameIsLeftAlone(t *testing.T) {
	path := socket(t)
	if err := os.WriteFile(path, []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := admin.NewServer(zap.NewNop())
	if err := s.Start(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("start: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "notes" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

func TestStopRemovesOnlyItsOwnSocket(t *testing.T) {
	path := socket(t)
	first := serve(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	serve(t, path)
	stop(t, first)
	if err := admin.NewClient(path).Post(t.Context(), "/greet", greeting{"you"}, nil); err != nil {
		t.Errorf("the second one after the first one's stop: %v", err)
	}
}

func TestALongNameIsServed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, admin.SocketName)
	serve(t, path)
	c, err := admin.Find([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Post(t.Context(), "/greet", greeting{"you"}, nil); err != nil {
		t.Error(err)
	}
}

func TestStopEndsWhatRuns(t *testing.T) {
	path := socket(t)
	s := admin.NewServer(zap.NewNop())
	began := make(chan struct{})
	s.Handle(admin.Route{
		Method: http.MethodGet, Path: "/long", Timeout: time.Hour,
		Handle: func(ctx context.Context, _ *admin.Request) (any, error) {
			close(began)
			<-ctx.Done()
			return nil, admin.Refuse(http.StatusServiceUnavailable, "stopping")
		},
	})
	if err := s.Start(path); err != nil {
		t.Fatal(err)
	}
	var asked sync.WaitGroup
	asked.Go(func() {
		var e *admin.Error
		if err := admin.NewClient(path).Get(context.Background(), "/long", nil); !errors.As(err, &e) || e.Text != "stopping" {
			t.Errorf("who asked was told %v", err)
		}
	})
	<-began
	stop(t, s)
	asked.Wait()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestNobodyThereSaysWhereItWasLookedFor(t *testing.T) {
	dir := t.TempDir()
	_, err := admin.Find(admin.Sockets("", dir, func(string) string { return "" }))
	var away *admin.UnreachableError
	if !errors.As(err, &away) || !strings.Contains(err.Error(), filepath.Join(dir, admin.SocketName)) {
		t.Errorf("got %v", err)
	}
}

func TestTheStateDirectoryIsSoughtInOrder(t *testing.T) {
	env := map[string]string{"HOLDFAST_STATE_DIR": "/b", "STATE_DIRECTORY": "/c:/d"}
	dirs, named := admin.Places("/a", func(k string) string { return env[k] }, []string{"/q"})
	if got := strings.Join(dirs, " "); got != "/a /b /c /var/lib/holdfast /q/.holdfast" || named != 3 {
		t.Errorf("places %q, %d named", got, named)
	}
	if got := admin.Sockets("/x.sock", "/a", os.Getenv); len(got) != 1 || got[0] != "/x.sock" {
		t.Errorf("with --admin-socket: %v", got)
	}
	if got := admin.Sockets("", "", func(string) string { return "" }); len(got) != 4 || got[0] != "/var/lib/holdfast/admin.sock" {
		t.Errorf("without flags: %v", got)
	}
}

func TestOnlyADirectoryThatCanBeWrittenIsUsed(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	if err := admin.Use(deep, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its parent: %v", err)
	}
	if err := admin.Use(deep, true); err != nil {
		t.Errorf("asked for: %v", err)
	}
	if info, err := os.Stat(deep); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with %v, %v", info, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := admin.Use(file, true); err == nil {
		t.Error("a file is no directory")
	}
}
