// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package stage plays one scenario on a user's configuration.
//
// It stands between internal/drill, which chooses what is played, and internal/drill/verdict, which judges what was noted.
// A room is a private directory, a loopback address of its own, a backend in this process behind every exporter, a load,
// and the collector as a child that can be killed and started again. It promises that nothing of a room outlives it or
// this process, that nothing outside it is touched, and that a fault which was never met is not called a test.
package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
	"github.com/holdfast-telemetry/holdfast/internal/drill/disk"
	"github.com/holdfast-telemetry/holdfast/internal/drill/lookout"
	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/scenario"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// FirstBackend is the port of the first backend of a room, and firstDouble that of the first one's double.
const (
	FirstBackend = 14317
	firstDouble  = 24317
)

// Play is what every room of a drill has in common.
type Play struct {
	Binary   string // the program to start
	Texts    []string
	Sets     []string
	Headers  [][2]string // that those who send add
	Hurry    bool
	Topology *topology.Topology
}

// room is where one scenario is played. Its methods are for one goroutine, unless they say otherwise.
type room struct {
	play  *Play
	scene *scenario.Scenario
	out   *report.Scenario
	dir   string
	host  string
	guard net.Listener
	log   *os.File
	disk  *disk.Disk // nil: the private directory is good enough
	to    *topology.Redirection

	backends, doubles map[string]*mockbackend.Backend
	addresses         map[string]string // files that say where an exporter sends to, where there are doubles
	files             []string          // the copies of the configuration
	args, vars        []string
	door              *mockbackend.Certificates

	child   *child.Child
	admin   *admin.Client
	loads   []*load
	via     map[verdict.Source]string // which receiver took what a producer sends; under mu
	bound   int64
	lives   int    // after the first
	noGap   bool   // it is asked whether a time is missing
	refuses bool   // the door had to refuse
	was     string // the configuration that ran before a reload
	// offered is the newest generation there was before the last reload.
	offered uint64

	unwatch context.CancelFunc
	watcher sync.WaitGroup
	seen    *lookout.Lookout[*look]
	mu      struct {
		sync.Mutex
		acked  uint64
		turned uint64                   // requests refused so that clients come back
		final  uint64                   // requests refused for good
		hint   string                   // the last of the former
		answer string                   // the last of the latter
		wrong  map[string]*report.Fault // in force, by backend
	}
}

// Run plays a scenario in the directory, which it makes, and writes what it finds into out. An error says why there is no
// verdict, or not all of one.
func (p *Play) Run(ctx context.Context, s *scenario.Scenario, dir string, out *report.Scenario) (err error) {
	m, err := p.newRoom(s, dir, out)
	var no *impossibleError
	if errors.As(err, &no) {
		out.Why = no.Error()
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() { // the load ends with its context
		cancel()
		err = errors.Join(err, m.close())
	}()
	if err := m.begin(ctx); err != nil {
		return err
	}
	if err := m.send(ctx); err != nil {
		return err
	}
	if err := m.well(ctx); err != nil {
		return m.take(err)
	}
	if err := m.take(m.steps(ctx)); err != nil {
		return err
	}
	if _, err := m.heal(nil); err != nil { // what broke off may have left a fault
		return err
	}
	books, late, err := m.end(ctx)
	if late != nil {
		m.out.Breaks(verdict.Drain, nil, "%s", late)
	}
	if err != nil {
		return m.take(err)
	}
	m.finalRefusals()
	m.mu.Lock()
	via, acked := m.via, m.mu.acked
	m.mu.Unlock()
	notes := verdict.Notes{Topology: p.Topology, Dir: m.notes(), Files: m.to.Files, Via: via, Books: books, Bound: m.bound, Acked: acked,
		Restarts: m.lives, Memory: m.memory(), Rejects: s.Load.Rejects, MayDrop: m.mayDrop(), NoGap: m.noGap, MaxTwice: s.MaxTwice}
	return notes.Judge(m.out)
}

// impossibleError says why a scenario cannot be played on this machine.
type impossibleError struct{ text string }

func (e *impossibleError) Error() string { return e.text }

// newRoom begins: backends are up, nothing else.
func (p *Play) newRoom(s *scenario.Scenario, dir string, out *report.Scenario) (*room, error) {
	m := &room{play: p, scene: s, out: out, dir: dir, backends: map[string]*mockbackend.Backend{},
		doubles: map[string]*mockbackend.Backend{}, addresses: map[string]string{}, via: map[verdict.Source]string{}}
	m.seen, m.mu.wrong = lookout.New(&look{stored: map[string]uint64{}}), map[string]*report.Fault{}
	if err := m.prepare(); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *room) path(elem ...string) string { return filepath.Join(append([]string{m.dir}, elem...)...) }
func (m *room) notes() string              { return m.path("notes") }

func (m *room) prepare() (err error) {
	for _, dir := range []string{m.notes(), m.path("state"), m.path("certificates"), m.path("queue")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if m.scene.Disk != (scenario.Disk{}) {
		d := m.scene.Disk
		m.disk, err = disk.Open(disk.Options{Dir: m.path("queue"), MiB: d.MiB, Slow: d.Slow})
		if err != nil && !d.Optional {
			return &impossibleError{fmt.Sprintf("this machine does not let us have a disk of our own: %s", err)}
		}
	}
	if m.log, err = os.Create(m.path("holdfast.log")); err != nil {
		return err
	}
	if m.host, m.guard, err = child.OwnHost(); err != nil {
		return err
	}
	if m.door, err = mockbackend.NewCertificates("localhost", m.host); err != nil {
		return err
	}
	place := topology.Place{Host: m.host, Dir: m.dir, Backends: map[string]string{}, CA: m.path("certificates", "ca.pem"),
		Cert: m.certificate, Hurry: m.play.Hurry, DoorCert: m.path("certificates", "door.pem"), DoorKey: m.path("certificates", "door.key"),
		DoorCA: m.path("certificates", "door-ca.pem")}
	ca, err := m.startBackends(&place)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{place.CA: ca, place.DoorCert: m.door.Cert, place.DoorKey: m.door.Key, place.DoorCA: m.door.CA,
		m.path("certificates", "load.pem"): m.door.ClientCert, m.path("certificates", "load.key"): m.door.ClientKey} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return err
		}
	}
	m.vars = append([]string{"SSL_CERT_FILE=" + place.CA, "SSL_CERT_DIR=" + m.path("certificates", "none")}, m.scene.Vars...)
	m.to = m.play.Topology.Redirect(place)
	for _, f := range m.to.Files {
		if err := os.MkdirAll(filepath.Dir(f), 0o750); err != nil {
			return err
		}
	}
	return m.configure()
}

// startBackends starts what stands behind the exporters, and returns its authorities.
func (m *room) startBackends(place *topology.Place) (ca []byte, err error) {
	for i, b := range m.play.Topology.Backends {
		addr := net.JoinHostPort(m.host, strconv.Itoa(FirstBackend+i))
		if m.backends[b.ID], err = m.backend(b, verdict.SinkName(b.ID), addr); err != nil {
			return nil, err
		}
		place.Backends[b.ID] = addr
		ca = append(ca, m.backends[b.ID].CA()...)
		if !m.scene.Double {
			continue
		}
		// A reload leads an exporter to its double: what it says of its address is in a file.
		m.addresses[b.ID] = m.path(fmt.Sprintf("address-%d", i))
		if err := os.WriteFile(m.addresses[b.ID], []byte(addr), 0o600); err != nil {
			return nil, err
		}
		place.Backends[b.ID] = "${file:" + m.addresses[b.ID] + "}"
		m.doubles[b.ID], err = m.backend(b, verdict.SinkName(b.ID)+"-double", net.JoinHostPort(m.host, strconv.Itoa(firstDouble+i)))
		if err != nil {
			return nil, err
		}
		ca = append(ca, m.doubles[b.ID].CA()...)
	}
	return ca, nil
}

func (m *room) backend(b topology.Backend, name, addr string) (*mockbackend.Backend, error) {
	o := mockbackend.Options{Name: name, Dir: m.notes(), TLS: b.TLS}
	if o.GRPC = addr; b.HTTP {
		o.GRPC, o.HTTP = "", addr
	}
	s, err := mockbackend.Start(o)
	if err != nil {
		return nil, fmt.Errorf("backend of %s: %w", b.ID, err)
	}
	return s, nil
}

// certificate writes what the backend's authority issued for clients.
func (m *room) certificate(id string) (cert, key string) {
	cert, key = m.path("certificates", verdict.SinkName(id)+".pem"), m.path("certificates", verdict.SinkName(id)+".key")
	c, k := m.backends[id].ClientCertificate()
	_ = os.WriteFile(cert, c, 0o600) // the collector says so if it is not there
	_ = os.WriteFile(key, k, 0o600)
	return cert, key
}

// configure writes the copies of the configuration and the command line.
func (m *room) configure() error {
	m.args = []string{"run", "--implicit-health=off", "--state-dir", m.path("state")}
	for i, text := range m.play.Texts {
		name := m.path(fmt.Sprintf("config-%d.yaml", i))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
		m.files = append(m.files, name)
		m.args = append(m.args, "--config", name)
	}
	for _, sets := range [][]string{m.play.Sets, m.to.Sets, m.scene.Sets} {
		for _, s := range sets {
			m.args = append(m.args, "--set", s)
		}
	}
	return nil
}

// close ends everything that still runs. It is idempotent.
func (m *room) close() error {
	if m.child != nil {
		m.child.Kill()
	}
	if m.unwatch != nil {
		m.unwatch()
	}
	m.watcher.Wait()
	for _, l := range m.loads {
		l.done.Wait() // its context has ended, or it was stopped
	}
	err := m.stopBackends()
	if m.disk != nil {
		m.disk.Close()
	}
	if m.guard != nil {
		_ = m.guard.Close() // it was open, or is closed already
	}
	if m.log != nil {
		_ = m.log.Close() // as above
	}
	return err
}

func (m *room) stopBackends() error {
	var errs []error
	for _, all := range []map[string]*mockbackend.Backend{m.backends, m.doubles} {
		for _, b := range all {
			errs = append(errs, b.Stop())
		}
	}
	return errors.Join(errs...)
}
