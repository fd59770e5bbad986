// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Field numbers that the four requests share:
//
//	request        { 1: resource group …; profiles also 2: dictionary }
//	resource group { 1: resource, 2: scope group …, 3: schema URL }
//	scope group    { 1: scope, 2: item …, 3: schema URL }
//
// An item is a span, a metric, a log record or a profile.
const (
	fieldGroup      = 1
	fieldDictionary = 2
	fieldItem       = 2    // of both kinds of group
	fieldDeprecated = 1000 // of a resource group: scope groups in their old place; not in profiles

	requestFields = 1 << fieldGroup
	groupFields   = 1<<1 | 1<<fieldItem | 1<<3
)

// request checks a whole export request.
func (s *scanner) request(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return s.fail(b, at, end, kindRequest)
		}
		i = end
		switch {
		case tag == fieldGroup<<3|wireLen:
			if !s.resourceGroup(b[start:end]) {
				return false
			}
		case tag == fieldDictionary<<3|wireLen && s.signal == Profiles:
			if !s.walk(b[start:end], kindDictionary, 0) {
				return false
			}
		default:
			known := uint64(requestFields)
			if s.signal == Profiles {
				known |= 1 << fieldDictionary
			}
			if i = other(b, end, tag, known); i < 0 {
				return s.fail(b, at, i, kindRequest)
			}
		}
	}
	return s.signal != Profiles || s.references(b)
}

// resourceGroup checks ResourceSpans, ResourceMetrics, ResourceLogs or ResourceProfiles. Scope groups in their old
// place count if there are none in the new one.
func (s *scanner) resourceGroup(b []byte) bool {
	before, deprecated, current := s.items, 0, false
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return s.fail(b, at, end, kindResourceGroup)
		}
		i = end
		switch tag {
		case fieldItem<<3 | wireLen:
			current = true
			if !s.scopeGroup(b[start:end]) {
				return false
			}
		case 1<<3 | wireLen:
			if !s.walk(b[start:end], kindResource, 0) {
				return false
			}
		case 3<<3 | wireLen:
		default:
			if tag>>3 == fieldDeprecated && s.signal != Profiles {
				if tag&7 != wireLen {
					return s.fail(b, at, badWireType, kindResourceGroup)
				}
				counted := s.items
				if !s.scopeGroup(b[start:end]) {
					return false
				}
				deprecated += s.items - counted
				s.items = counted
				continue
			}
			if i = other(b, end, tag, groupFields); i < 0 {
				return s.fail(b, at, i, kindResourceGroup)
			}
		}
	}
	if !current {
		s.items = before + deprecated
	}
	return s.items <= MaxItems || s.refuse(b, 0, ErrTooManyItems, kindResourceGroup)
}

// scopeGroup checks ScopeSpans, ScopeMetrics, ScopeLogs or ScopeProfiles and counts the items in it.
func (s *scanner) scopeGroup(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return s.fail(b, at, end, kindScopeGroup)
		}
		i = end
		switch tag {
		case fieldItem<<3 | wireLen:
			if !s.item(b[start:end]) {
				return false
			}
		case 1<<3 | wireLen:
			if !s.walk(b[start:end], kindScope, 0) {
				return false
			}
		case 3<<3 | wireLen:
		default:
			if i = other(b, end, tag, groupFields); i < 0 {
				return s.fail(b, at, i, kindScopeGroup)
			}
		}
	}
	return true
}

// item checks one span, metric, log record or profile and counts what is in it.
func (s *scanner) item(b []byte) bool {
	switch s.signal {
	case Traces:
		s.items++
		return s.span(b)
	case Metrics:
		return s.metric(b)
	case Logs:
		s.items++
		return s.logRecord(b)
	}
	return s.profile(b)
}
