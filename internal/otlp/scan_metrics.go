// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Field numbers of a Metric's data, which is one oneof, and in it.
const (
	fieldGauge        = 5
	fieldSum          = 7
	fieldHistogram    = 9
	fieldExpHistogram = 10
	fieldSummary      = 11
	fieldPoint        = 1 // in each of them
	fieldTemporality  = 2 // in sums and histograms
	fieldMonotonic    = 3 // in sums

	metricFields = 1<<1 | 1<<2 | 1<<3 | 1<<fieldGauge | 1<<fieldSum | 1<<fieldHistogram | 1<<fieldExpHistogram |
		1<<fieldSummary | 1<<12
	numberPointFields = 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8
)

// metric checks one Metric and counts its data points: those of the last data field, which replaces the ones before,
// also one of the same kind.
func (s *scanner) metric(b []byte) bool {
	points := 0
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return s.fail(b, at, end, kindMetric)
		}
		i = end
		ok := true
		switch tag {
		case 1<<3 | wireLen, 2<<3 | wireLen, 3<<3 | wireLen: // name, description, unit
		case fieldGauge<<3 | wireLen:
			points, ok = s.points(b[start:end], 1<<fieldPoint, kindNumberPoint)
		case fieldSum<<3 | wireLen:
			points, ok = s.points(b[start:end], 1<<fieldPoint|1<<fieldTemporality|1<<fieldMonotonic, kindNumberPoint)
		case fieldHistogram<<3 | wireLen:
			points, ok = s.points(b[start:end], 1<<fieldPoint|1<<fieldTemporality, kindHistogramPoint)
		case fieldExpHistogram<<3 | wireLen:
			points, ok = s.points(b[start:end], 1<<fieldPoint|1<<fieldTemporality, kindExpHistogramPoint)
		case fieldSummary<<3 | wireLen:
			points, ok = s.points(b[start:end], 1<<fieldPoint, kindSummaryPoint)
		case 12<<3 | wireLen: // metadata
			ok = s.anyAttribute(b[start:end])
		default:
			i = other(b, i, tag, metricFields)
		}
		if !ok {
			return false
		}
		if i < 0 {
			return s.fail(b, at, i, kindMetric)
		}
	}
	s.items += points
	return true
}

// points checks the data of a metric, whose fields are those in known and whose points are messages of kind k, and
// returns how many points it has.
func (s *scanner) points(b []byte, known uint64, k kind) (points int, ok bool) {
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return 0, s.fail(b, at, end, kindMetricData)
		}
		i = end
		switch number := tag >> 3; {
		case tag == fieldPoint<<3|wireLen:
			points++
			if k == kindNumberPoint {
				ok = s.numberPoint(b[start:end])
			} else {
				ok = s.walk(b[start:end], k, 0)
			}
			if !ok {
				return 0, false
			}
		case tag&7 == wireVarint && (number == fieldTemporality || number == fieldMonotonic) && known>>number&1 != 0:
			_, i = varint(b, i)
		default:
			i = other(b, i, tag, known)
		}
		if i < 0 {
			return 0, s.fail(b, at, i, kindMetricData)
		}
	}
	return points, true
}

// numberPoint checks one NumberDataPoint.
func (s *scanner) numberPoint(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag == 7<<3|wireLen && i < len(b) && b[i] < 0x80 && int(b[i]) < len(b)-i {
			a := b[i+1:][:b[i]]
			if i += 1 + len(a); plainAttribute(a) || s.anyAttribute(a) {
				continue
			}
			return false
		}
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindNumberPoint)
			}
		}
		start := i
		if tag&7 == wireLen {
			if i < len(b) && b[i] < 0x80 && int(b[i]) < len(b)-i {
				start = i + 1
				i = start + int(b[i])
			} else if start, i = extent(b, i); i < 0 {
				return s.fail(b, at, i, kindNumberPoint)
			}
		}
		ok := true
		switch tag {
		case 7<<3 | wireLen: // attributes, with a long tag or length
			ok = s.anyAttribute(b[start:i])
		case 2<<3 | wireI64, 3<<3 | wireI64, 4<<3 | wireI64, 6<<3 | wireI64: // start, time, value as double or int
			i = fixed(b, i, 8)
		case 8<<3 | wireVarint: // flags
			_, i = varint(b, i)
		case 5<<3 | wireLen: // exemplars
			ok = s.walk(b[start:i], kindExemplar, 0)
		default:
			i = other(b, i, tag, numberPointFields)
		}
		if !ok {
			return false
		}
		if i < 0 {
			return s.fail(b, at, i, kindNumberPoint)
		}
	}
	return true
}
