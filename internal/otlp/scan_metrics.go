// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Field numbers of the kinds of data a Metric can hold; they are one oneof.
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
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindMetric)
			}
		}
		var start int
		switch tag {
		case 1<<3 | wireLen, 2<<3 | wireLen, 3<<3 | wireLen: // name, description, unit
			_, i = extent(b, i)
		case fieldGauge<<3 | wireLen, fieldSum<<3 | wireLen, fieldHistogram<<3 | wireLen,
			fieldExpHistogram<<3 | wireLen, fieldSummary<<3 | wireLen:
			if start, i = extent(b, i); i >= 0 {
				var ok bool
				if points, ok = s.metricData(b[start:i], tag>>3); !ok {
					return false
				}
			}
		case 12<<3 | wireLen: // metadata
			if start, i = extent(b, i); i >= 0 && !s.attribute(b[start:i]) {
				return false
			}
		default:
			i = other(b, i, tag, metricFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindMetric)
		}
	}
	s.items += points
	return true
}

// metricData checks a Gauge, Sum, Histogram, ExponentialHistogram or Summary, which of them is told by its field number,
// and returns how many points it has.
func (s *scanner) metricData(b []byte, number uint) (points int, ok bool) {
	known, point := uint64(1<<fieldPoint), kindNumberPoint
	switch number {
	case fieldSum:
		known |= 1<<fieldTemporality | 1<<fieldMonotonic
	case fieldHistogram:
		known |= 1 << fieldTemporality
		point = kindHistogramPoint
	case fieldExpHistogram:
		known |= 1 << fieldTemporality
		point = kindExpHistogramPoint
	case fieldSummary:
		point = kindSummaryPoint
	}
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return 0, s.fail(b, at, i, kindMetricData)
			}
		}
		switch {
		case tag == fieldPoint<<3|wireLen:
			var start int
			if start, i = extent(b, i); i < 0 {
				break
			}
			points++
			if point == kindNumberPoint {
				ok = s.numberPoint(b[start:i])
			} else {
				ok = s.walk(b[start:i], point, 0)
			}
			if !ok {
				return 0, false
			}
		case tag&7 == wireVarint && tag>>3 <= fieldMonotonic && known>>(tag>>3)&1 != 0 && tag>>3 != fieldPoint:
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
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindNumberPoint)
			}
		}
		var start int
		switch tag {
		case 7<<3 | wireLen: // attributes
			if start, i = extent(b, i); i >= 0 && !s.attribute(b[start:i]) {
				return false
			}
		case 2<<3 | wireI64, 3<<3 | wireI64, 4<<3 | wireI64, 6<<3 | wireI64: // start, time, value as double or int
			i = fixed(b, i, 8)
		case 8<<3 | wireVarint: // flags
			_, i = varint(b, i)
		case 5<<3 | wireLen: // exemplars
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindExemplar, 0) {
				return false
			}
		default:
			i = other(b, i, tag, numberPointFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindNumberPoint)
		}
	}
	return true
}
