// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command stock measures the reference's file_storage alone: records put, and records put, delivered and acknowledged,
// with the storage calls the reference's persistent queue makes for that, one at a time under its lock as there.
//
// It prints one line of JSON, in bytes of payload per second. test/acceptance puts the journal beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

func main() {
	var (
		dir     = flag.String("dir", "", "an empty directory")
		size    = flag.Int("size", 100<<10, "bytes of a record")
		workers = flag.Int("workers", 8, "who put, and who deliver")
		length  = flag.Duration("for", time.Second, "of each of the two measurements")
	)
	flag.Parse()
	if err := measure(context.Background(), *dir, *size, *workers, *length); err != nil {
		fmt.Fprintln(os.Stderr, "stock:", err)
		os.Exit(1)
	}
}

// result is what is printed.
type result struct {
	Put   float64 `json:"put"`   // bytes per second
	Cycle float64 `json:"cycle"` // put, delivered and acknowledged
}

func measure(ctx context.Context, dir string, size, workers int, length time.Duration) (err error) {
	factory := filestorage.NewFactory()
	config := factory.CreateDefaultConfig().(*filestorage.Config)
	config.Directory, config.FSync = dir, true
	instance, err := factory.Create(ctx, extension.Settings{
		ID: component.NewID(factory.Type()), TelemetrySettings: componenttest.NewNopTelemetrySettings(),
	}, config)
	if err != nil {
		return err
	}
	store, ok := instance.(storage.Extension)
	if !ok {
		return errors.New("file_storage is no storage")
	}
	var r result
	for name, into := range map[string]*float64{"put": &r.Put, "cycle": &r.Cycle} {
		client, err := store.GetClient(ctx, component.KindExporter, component.MustNewID("stock"), name)
		if err != nil {
			return err
		}
		*into, err = newQueue(client, size).run(ctx, workers, length, name == "cycle")
		if err := errors.Join(err, client.Close(ctx)); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// queue makes the calls of the reference's persistent queue (exporterhelper, internal/queue/persistent_queue.go): the
// bookkeeping is one key that every step writes, the record another.
type queue struct {
	client storage.Client
	body   []byte

	mu          sync.Mutex
	more        *sync.Cond
	read, write uint64
	dispatched  int
	stopped     bool
}

// bookkeeping is about what the reference's key holds with a few records dispatched.
const bookkeeping = 48

func newQueue(client storage.Client, size int) *queue {
	q := &queue{client: client, body: make([]byte, size)}
	for i := range q.body {
		q.body[i] = byte(i * 7)
	}
	q.more = sync.NewCond(&q.mu)
	return q
}

// run returns the payload that went all the way, in bytes per second.
func (q *queue) run(ctx context.Context, workers int, length time.Duration, deliver bool) (float64, error) {
	errs := make([]error, 2*workers)
	began := time.Now()
	var producers, consumers sync.WaitGroup
	for i := range workers {
		producers.Go(func() {
			for time.Since(began) < length && errs[i] == nil {
				errs[i] = q.put(ctx)
			}
		})
		if deliver {
			consumers.Go(func() {
				for more := true; more && errs[workers+i] == nil; {
					more, errs[workers+i] = q.take(ctx)
				}
			})
		}
	}
	producers.Wait()
	q.mu.Lock()
	q.stopped = true
	q.more.Broadcast()
	q.mu.Unlock()
	consumers.Wait()
	return float64(q.write) * float64(len(q.body)) / time.Since(began).Seconds(), errors.Join(errs...)
}

func (q *queue) put(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.write++
	err := q.client.Batch(ctx, q.books(), storage.SetOperation(strconv.FormatUint(q.write-1, 10), q.body))
	q.more.Signal()
	return err
}

// take delivers one record, which costs nothing here, and acknowledges it; false when there will be no more.
func (q *queue) take(ctx context.Context) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.read == q.write {
		if q.stopped {
			return false, nil
		}
		q.more.Wait()
	}
	key := strconv.FormatUint(q.read, 10)
	q.read++
	q.dispatched++
	get := storage.GetOperation(key)
	if err := q.client.Batch(ctx, q.books(), get); err != nil {
		return false, err
	}
	if len(get.Value) != len(q.body) {
		return false, fmt.Errorf("record %s has %d bytes", key, len(get.Value))
	}
	q.mu.Unlock() // it would be sent here
	q.mu.Lock()
	q.dispatched--
	return true, q.client.Batch(ctx, q.books(), storage.DeleteOperation(key))
}

func (q *queue) books() *storage.Operation {
	text := fmt.Appendf(nil, "%d %d %d", q.read, q.write, q.dispatched)
	return storage.SetOperation("qmv0", append(text, make([]byte, bookkeeping-min(bookkeeping, len(text)))...))
}
