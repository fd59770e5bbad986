// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/binary"
	"math/bits"
)

// op is one step of writing a piece: the head of a container, or a copy of a run of the request.
type op struct {
	run
	opens  bool
	number uint // of the container's field; 0 for the request, which has no head
	size   int  // of the container's content
}

// add puts the field b[at:end], a child of the open path down to level, into the current piece, or into a new one if it
// does not fit.
func (sp *splitter) add(level, at, end, items int) {
	if sp.filled && !sp.fits(level, end-at, items) && sp.mayRepeat(level) {
		sp.cut()
	}
	for l := levelRequest; l <= level; l++ {
		c := &sp.path[l]
		if c.op >= 0 {
			continue
		}
		c.op = len(sp.ops)
		sp.ops = append(sp.ops, op{opens: true, number: c.number})
		for _, r := range c.around {
			sp.copy(r)
		}
	}
	sp.copy(run{at, end})
	sp.grow(level, end-at)
	sp.items += items
	sp.filled = true
}

// fits reports whether the current piece stays within the bounds with a field of n bytes and so many items.
func (sp *splitter) fits(level, n, items int) bool {
	if sp.maxItems > 0 && items > 0 && sp.items+items > sp.maxItems {
		return false
	}
	if sp.maxBytes == 0 {
		return true
	}
	for l := level; l > levelRequest; l-- {
		c := &sp.path[l]
		if c.op < 0 {
			n += c.aroundLen
			n += headLen(c.number, n)
		} else {
			size := sp.ops[c.op].size
			n += varintLen(size+n) - varintLen(size)
		}
	}
	return sp.ops[0].size+n <= sp.maxBytes
}

// grow adds n bytes to the container on the given level, and to those around it what that makes there. A container whose
// size is still 0 was opened just now: it also brings its head and what stands around its children.
func (sp *splitter) grow(level, n int) {
	for l := level; l >= levelRequest; l-- {
		c := &sp.path[l]
		size := sp.ops[c.op].size
		if size == 0 {
			n += c.aroundLen
		}
		sp.ops[c.op].size += n
		switch {
		case l == levelRequest:
		case size == 0:
			n += headLen(c.number, n)
		default:
			n += varintLen(size+n) - varintLen(size)
		}
	}
}

// copy appends a run, as part of the last one if it follows it in the request, too.
func (sp *splitter) copy(r run) {
	if n := len(sp.ops); n > 0 && !sp.ops[n-1].opens && sp.ops[n-1].end == r.start {
		sp.ops[n-1].end = r.end
		return
	}
	sp.ops = append(sp.ops, op{run: r})
}

// mayRepeat reports whether what stands around a child on the given level may be written once more, and notes it.
func (sp *splitter) mayRepeat(level int) bool {
	n := 0
	for l := levelRequest; l <= level; l++ {
		n += sp.path[l].aroundLen
	}
	if sp.repeated+n > maxRepeat*len(sp.b) {
		return false
	}
	sp.repeated += n
	return true
}

// cut writes the current piece and begins another.
func (sp *splitter) cut() {
	body := make([]byte, 0, sp.ops[0].size)
	for i := range sp.ops {
		switch o := &sp.ops[i]; {
		case !o.opens:
			body = append(body, sp.b[o.start:o.end]...)
		case o.number > 0:
			body = binary.AppendUvarint(body, uint64(o.number)<<3|wireLen)
			body = binary.AppendUvarint(body, uint64(o.size))
		}
	}
	sp.pieces = append(sp.pieces, Piece{Items: uint32(sp.items), Body: body})
	sp.ops, sp.items, sp.filled = sp.ops[:0], 0, false
	for l := range sp.path {
		sp.path[l].op = -1
	}
}

// headLen is the length of the head of a field with n bytes of content.
func headLen(number uint, n int) int { return varintLen(int(number<<3)) + varintLen(n) }

// varintLen is the length of n as a varint.
func varintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }
