// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Piece is a part of a request: a request of its own.
type Piece struct {
	Items uint32
	Body  []byte
}

// maxRepeat bounds what Split may write again and again: the resources, scopes, descriptors and dictionaries that
// stand around items and go into every piece. Without a bound, a request of a few megabytes could be cut into
// terabytes.
const maxRepeat = 16

// Split cuts a request that Scan found sound into requests of at most maxItems items and maxBytes bytes; 0 is no
// bound. Every item is in exactly one piece, pieces and items keep their order, and each piece has what stands around
// its items: resource, scope, schema URLs, metric descriptor with temporality and monotonicity, the profiles dictionary,
// and fields this package does not know.
//
// What cannot be cut is larger than asked for: a single item and what stands around it; a profile, since samples share
// its fields and the dictionary (so maxItems, which counts samples, may be exceeded by one profile); and what is left
// once pieces have repeated sixteen times the size of the request. Groups and metrics without items are kept, so a
// piece may hold 0 items. Left out is only what the reference decoder overrides or ignores: metric data followed by
// other data in the same metric, and scope groups in their old place beside such in the new.
//
// A request within the bounds is the only piece, and its Body is b; any other Body is the caller's own. The error is a
// *ScanError for bytes that are no request, or ErrSignal.
func Split(s Signal, b []byte, maxItems uint32, maxBytes int) ([]Piece, error) {
	if s < Traces || s > Profiles {
		return nil, ErrSignal
	}
	sp := splitter{signal: s, b: b, maxItems: int(maxItems), maxBytes: maxBytes, bottom: levelScope}
	if s == Metrics {
		sp.bottom = levelData
	}
	if err := sp.container(levelRequest, 0, 0, 0, len(b)); err != nil {
		return nil, err
	}
	if len(sp.pieces) == 0 && (maxBytes == 0 || len(b) <= maxBytes || !sp.filled) {
		return []Piece{{Items: uint32(sp.items), Body: b}}, nil
	}
	sp.cut()
	return sp.pieces, nil
}

// The levels of messages around an item. Only metrics have the last two.
const (
	levelRequest = iota
	levelResource
	levelScope
	levelMetric
	levelData
	levels
)

var levelKinds = [levels]kind{kindRequest, kindResourceGroup, kindScopeGroup, kindMetric, kindMetricData}

// splitter walks a request and collects what the next piece is made of.
type splitter struct {
	signal   Signal
	b        []byte
	maxItems int
	maxBytes int
	bottom   int // the level whose children are items

	path     [levels]container // the messages that the walk is in
	ops      []op              // the piece, in the order of its bytes
	items    int               // in the piece
	filled   bool              // whether anything is in the piece but what stands around items
	repeated int               // bytes around items written so far, beyond the first time
	pieces   []Piece
}

// container is a message around items. Its fields other than children go into every piece that has some of these.
type container struct {
	number    uint  // of its field; 0 for the request
	around    []run // where these other fields are
	aroundLen int
	op        int // that opens it in the current piece; -1 = not open there
}

// run is a stretch of the request.
type run struct{ start, end int }

// container takes apart the message b[start:end], which is field b[at:end] of the level above. It calls itself for what
// is inside, five levels at most.
func (sp *splitter) container(level int, number uint, at, start, end int) error {
	c := &sp.path[level]
	*c = container{number: number, around: c.around[:0], op: -1}
	child, only, err := sp.survey(c, level, start, end)
	if err != nil {
		return err
	}
	if child == 0 {
		if level > levelRequest {
			sp.add(level-1, at, end, 0)
		}
		return nil
	}
	for i := max(start, only); i < end; {
		tag, from, to := next(sp.b[:end], i)
		if tag == child {
			if err := sp.child(level, child>>3, i, from, to); err != nil {
				return err
			}
			if only >= 0 {
				break
			}
		}
		i = to
	}
	return nil
}

// child takes over one child of a container on the given level, whose field is b[at:end] and content b[start:end].
func (sp *splitter) child(level int, number uint, at, start, end int) error {
	if level < sp.bottom {
		return sp.container(level+1, number, at, start, end)
	}
	items := 1
	if sp.signal == Profiles {
		items = 0
		for i := start; i < end; {
			tag, _, to := next(sp.b[:end], i)
			if to < 0 {
				return sp.broken(kindProfile, i, to)
			}
			if i = to; tag == 2<<3|wireLen {
				items++
			}
		}
	}
	sp.add(level, at, end, items)
	return nil
}

// survey finds what stands around the children of c, the message b[start:end] on the given level, and the children's tag,
// 0 if there are none. If only one of them counts, only is where it starts, otherwise it is -1.
func (sp *splitter) survey(c *container, level, start, end int) (child uint, only int, err error) {
	only = -1
	for i := start; i < end; {
		at := i
		tag, _, to := next(sp.b[:end], i)
		if to < 0 {
			return 0, 0, sp.broken(levelKinds[level], at, to)
		}
		i = to
		if level == levelMetric && isMetricData(tag) {
			child, only = tag, at
			continue
		}
		if level == levelResource && tag == fieldDeprecated<<3|wireLen && sp.signal != Profiles {
			if child == 0 {
				child = tag
			}
			continue
		}
		if tag == childTags[level] {
			child = tag
			continue
		}
		c.aroundLen += to - at
		if n := len(c.around); n > 0 && c.around[n-1].end == at {
			c.around[n-1].end = to
		} else {
			c.around = append(c.around, run{at, to})
		}
	}
	return child, only, nil
}

// childTags are the tags of children; those of metrics are told by isMetricData.
var childTags = [levels]uint{
	levelRequest: fieldGroup<<3 | wireLen, levelResource: fieldItem<<3 | wireLen, levelScope: fieldItem<<3 | wireLen,
	levelData: fieldPoint<<3 | wireLen,
}

func isMetricData(tag uint) bool {
	switch tag {
	case fieldGauge<<3 | wireLen, fieldSum<<3 | wireLen, fieldHistogram<<3 | wireLen, fieldExpHistogram<<3 | wireLen,
		fieldSummary<<3 | wireLen:
		return true
	}
	return false
}

// broken is the error for bytes that Scan would have refused.
func (sp *splitter) broken(k kind, at, bad int) error {
	return &ScanError{Signal: sp.signal, Offset: at, Message: kindWords[k], Detail: badDetails[-bad], Cause: ErrMalformed}
}
