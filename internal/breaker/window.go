// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// buckets is how finely a window forgets: a thirtieth of it at a time.
const buckets = 30

// counts are what a window counts.
type counts struct {
	deliveries, failures, strikes uint32
	slow                          uint32 // deliveries that took too long, and attempts without an answer in time
	unanswered                    uint32 // the latter
}

func (c *counts) add(d counts) {
	c.deliveries += d.deliveries
	c.failures += d.failures
	c.strikes += d.strikes
	c.slow += d.slow
	c.unanswered += d.unanswered
}

func (c *counts) sub(d counts) {
	c.deliveries -= d.deliveries
	c.failures -= d.failures
	c.strikes -= d.strikes
	c.slow -= d.slow
	c.unanswered -= d.unanswered
}

// window counts over the last so much time. Bucket n%buckets holds what came in the n-th width since the breaker was
// born; sum is the sum of all buckets, and newest is the n of the last one written. A count that would overflow, at
// four billion in a window, wraps in bucket and sum alike and leaves with its bucket.
type window struct {
	width  time.Duration
	newest int64
	sum    counts
	bucket [buckets]counts
}

func (w *window) init(length time.Duration) {
	*w = window{width: max(length/buckets, 1)}
}

// add counts c at age, which does not fall.
func (w *window) add(age time.Duration, c counts) {
	w.forget(age)
	w.bucket[w.newest%buckets].add(c)
	w.sum.add(c)
}

// forget drops what has left the window at age.
func (w *window) forget(age time.Duration) {
	n := int64(age / w.width)
	if n <= w.newest {
		return
	}
	if n-w.newest >= buckets {
		w.bucket, w.sum = [buckets]counts{}, counts{}
	} else {
		for i := w.newest + 1; i <= n; i++ {
			old := &w.bucket[i%buckets]
			w.sum.sub(*old)
			*old = counts{}
		}
	}
	w.newest = n
}
