// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// scene is one instance and its outage.
type scene struct {
	name string
	set  func(c *collector) error // starts it
	play func(c *collector) error // until its end; the recording goes on without it
}

// The words of marks. What is done is in the past tense of the instant, and what ends it has the same name with "over".
const (
	refuses = "refuses"
	answers = "answers"
)

var scenes = []scene{
	{"books", books, playBooks}, // first: it is built before anything runs
	{"calm", calm, func(*collector) error { return nil }},
	{"levels", levels, playLevels},
	{"disk", capped, playOneBackend("backend", 40, 150)},
	{"memory", memory, playOneBackend("backend", 40, 130)},
	{"oldest", oldest, playOneBackend("backend", 40, 100)},
	{"rejects", ample, playRejects},
	{"reload", reloads, playReload},
	{"certificates", certificates, playCertificates},
	{"restarts", ample, playRestarts},
	{"damage", ample, playDamage},
	{"detached", ample, playDetached},
	{"door", door, playDoor},
	{"slow", onOwnDisk, playSlow},
	{"sync", onOwnDisk, playOneSync},
	{"broken", onOwnDisk, playBroken},
	{"crashes", crashes, playCrashes},
}

// gentle is about 20 KB/s.
var gentle = loadgen.Options{Items: 10, Rate: 50}

func start(c *collector, text string, backends ...string) error {
	for _, name := range backends {
		if _, err := c.backend(name); err != nil {
			return err
		}
	}
	if err := c.begin(text); err != nil {
		return err
	}
	c.load(gentle)
	return nil
}

// backends by name, after start.
func (c *collector) fault(second int, what string, faults ...string) error {
	if err := c.at(second, what); err != nil {
		return err
	}
	name, _, _ := strings.Cut(what, " ")
	for _, b := range c.backends {
		if b.State().Name == name {
			return b.SetFaults(faults...)
		}
	}
	return fmt.Errorf("no backend %s", name)
}

// calm is how it is when nothing happens: nobody may be woken.
func calm(c *collector) error {
	return start(c, levelsConfig, "primary", "secondary")
}

const levelsConfig = `exporters:
  otlp/primary: {endpoint: "$PRIMARY", tls: {insecure: true}, ` + retries + `, sending_queue: {storage: file_storage}}
  otlp/secondary: {endpoint: "$SECONDARY", tls: {insecure: true}, ` + retries + `, sending_queue: {storage: file_storage}}
  file: {path: "$DIR/emergency/out.jsonl"}
connectors:
  failover:
    priority_levels: [[otlp/primary], [otlp/secondary], [file]]
    retry_interval: 1s
    retry_gap: 500ms
    all_down: {probe_every: 1s}
    backfill: {after: 2s}
    return: {ramp: 1s, hold_down_max: 5s}
extensions: {file_storage: {directory: "$DIR/queue", max_file_size_mib: 64}}
service:
  extensions: [file_storage]
  pipelines: {traces: {receivers: [otlp], exporters: [failover]}}
`

func levels(c *collector) error { return start(c, levelsConfig, "primary", "secondary") }

// playLevels: the first level, then both, then all is well again.
func playLevels(c *collector) error {
	return inOrder(
		func() error { return c.fault(40, "primary "+refuses, "refuse") },
		func() error { return c.fault(80, "secondary "+refuses, "refuse") },
		func() error { return c.fault(130, "secondary "+answers) },
		func() error { return c.fault(150, "primary "+answers) },
	)
}

// memory has room for few requests.
func memory(c *collector) error {
	return start(c, `exporters:
  otlp: {endpoint: "$BACKEND", tls: {insecure: true}, `+retries+`, sending_queue: {queue_size: 300}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}
`, "backend")
}

// oldest gives up the oldest where another would refuse.
func oldest(c *collector) error {
	return start(c, strings.Replace(roomy, "max_file_size_mib: 512", "max_size: 16777216, overflow: drop_oldest", 1), "backend")
}

// playOneBackend: it refuses, and answers again. Meanwhile more comes than there is room for.
func playOneBackend(name string, from, to int) func(*collector) error {
	return func(c *collector) error {
		if err := c.fault(from, name+" "+refuses, "refuse"); err != nil {
			return err
		}
		flood := func() {}
		if c.name != "memory" {
			flood = c.load(loadgen.Options{Items: 50, Rate: 600, ItemBytes: 400, Seed: 7})
		}
		err := c.fault(to, name+" "+answers)
		flood()
		return err
	}
}

// playRejects has a backend that will never take some of what it is sent.
func playRejects(c *collector) error {
	flood := func() {}
	return inOrder(
		func() error { return c.fault(40, "backend rejects", "status:InvalidArgument") },
		func() error { // more than is kept of dead letters
			if err := c.at(70, "backend rejects much"); err != nil {
				return err
			}
			flood = c.load(loadgen.Options{Items: 100, ItemBytes: 4000, Rate: 600, Seed: 9})
			return nil
		},
		func() error { err := c.at(100, "no more is rejected than is kept"); flood(); return err },
		func() error { return c.fault(110, "backend "+answers) },
	)
}

const reloadConfig = `exporters:
  otlp/a: {endpoint: "$A", tls: {insecure: true}, ` + retries + `, sending_queue: {storage: file_storage, queue_size: 100000}}
  otlp/b: {endpoint: "$B", tls: {insecure: true}, ` + retries + `, sending_queue: {storage: file_storage, queue_size: 100000}}
extensions: {file_storage: {directory: "$DIR/queue", max_file_size_mib: 64}}
service:
  extensions: [file_storage]
  reload: {trial: 20s, preflight: off}
  pipelines: {traces: {receivers: [otlp], exporters: [$USED]}}
`

func reloads(c *collector) error {
	c.values["USED"] = "otlp/a, otlp/b"
	c.values["REFUSING"] = ""
	return start(c, reloadConfig, "a", "b", "wrong")
}

// playReload: a file that is refused and lies there, one that is undone, and a destination that leaves with what it is owed.
func playReload(c *collector) error {
	offer := func(second int, what, text string) func() error {
		return func() error {
			if err := c.at(second, what); err != nil {
				return err
			}
			if err := c.configure(text); err != nil {
				return err
			}
			return c.signal(syscall.SIGHUP)
		}
	}
	with := func(used string) func() error { return func() error { c.values["USED"] = used; return nil } }
	return inOrder(
		offer(40, "config refused", strings.Replace(reloadConfig, "retry_on_failure", "retry_on_falure", 1)),
		offer(100, "config good", reloadConfig),
		func() error { return c.fault(135, "wrong "+refuses, "refuse") },
		offer(140, "config undone", strings.Replace(reloadConfig, `otlp/a: {endpoint: "$A"`, `otlp/a: {endpoint: "$WRONG"`, 1)),
		offer(175, "config good again", reloadConfig), // it takes 20 s in which nothing is delivered to undo one
		func() error { return c.fault(180, "b "+refuses, "refuse") },
		with("otlp/a"),
		offer(225, "destination removed", reloadConfig),
		with("otlp/a, otlp/b"),
		func() error { return c.fault(275, "b "+answers) },
		offer(280, "destination back", reloadConfig),
	)
}

// certificates serves TLS with certificates that live long, at first.
func certificates(c *collector) error {
	for name, days := range map[string]float64{"door": 90, "client": 90} {
		if err := c.renew(name, days); err != nil {
			return err
		}
	}
	return start(c, `receivers:
  otlp/tls: {protocols: {grpc: {endpoint: "$HOST:4417", tls: {cert_file: "$DIR/door.crt", key_file: "$DIR/door.key"}}}}
exporters:
  otlp: {endpoint: "$BACKEND", tls: {insecure: true}}
  otlp/tls: {endpoint: "$BACKEND", tls: {cert_file: "$DIR/client.crt", key_file: "$DIR/client.key"}}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp]}
    logs: {receivers: [otlp/tls], exporters: [otlp/tls]}
`, "backend")
}

// playCertificates: a file is looked at once a minute, so each change is seen up to a minute later.
func playCertificates(c *collector) error {
	renew := func(second int, what, name string, days float64) func() error {
		return func() error {
			if err := c.at(second, what); err != nil {
				return err
			}
			return c.renew(name, days)
		}
	}
	return inOrder(
		renew(5, "door certificate has 20 days", "door", 20),
		renew(60, "client certificate has 12 hours", "client", 0.5),
		renew(150, "client certificate has 90 days", "client", 90),
		renew(230, "door certificate has 90 days", "door", 90),
	)
}

// renew writes a certificate and its key.
func (c *collector) renew(name string, days float64) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	until := time.Now().Add(time.Duration(days * 24 * float64(time.Hour)))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(until.UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for file, block := range map[string]*pem.Block{
		name + ".key": {Type: "PRIVATE KEY", Bytes: private}, name + ".crt": {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(c.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// door has as little memory for requests as it may have.
func door(c *collector) error {
	return start(c, strings.Replace(roomy, "service:\n", "service:\n  admission: {limit_mib: 32}\n", 1), "backend")
}

// playDoor: large requests that take their time, more at once than there is memory for.
func playDoor(c *collector) error {
	if err := c.at(40, "crowd comes"); err != nil {
		return err
	}
	ctx, leave := context.WithCancel(c.ctx)
	for range 6 {
		c.loads.Go(func() { c.crowd(ctx) })
	}
	err := c.at(90, "crowd leaves")
	leave()
	return err
}

// crowd posts one large request after the other; who is refused comes again.
func (c *collector) crowd(ctx context.Context) {
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.host+":4318/v1/traces", &slow{left: 9 << 20, ctx: ctx})
		if err != nil {
			return
		}
		req.ContentLength = 9 << 20
		req.Header.Set("Content-Type", "application/x-protobuf")
		if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// slow is a body of zeros at 160 KiB a second.
type slow struct {
	left int
	ctx  context.Context // of its request
}

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	n := min(len(p), s.left, 16<<10)
	clear(p[:n])
	s.left -= n
	return n, nil
}

func inOrder(steps ...func() error) error {
	for _, do := range steps {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}
