// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Field numbers that the four requests share: request { 1: resource group … }, resource group { 1: resource,
// 2: scope group …, 3: schema URL }, scope group { 1: scope, 2: item …, 3: schema URL }. Only profiles have more.
const (
	fieldGroup      = 1    // of a request
	fieldDictionary = 2    // of a profiles request
	fieldItem       = 2    // of both kinds of group
	fieldDeprecated = 1000 // scope groups in their old place; not in profiles

	requestFields = 1 << 1
	groupFields   = 1<<1 | 1<<2 | 1<<3
)

// request checks a whole export request.
func (s *scanner) request(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindRequest)
			}
		}
		var start int
		switch {
		case tag == fieldGroup<<3|wireLen:
			if start, i = extent(b, i); i >= 0 && !s.resourceGroup(b[start:i]) {
				return false
			}
		case tag>>3 == fieldDictionary && s.signal == Profiles:
			if tag&7 != wireLen {
				return s.fail(b, at, badWireType, kindRequest)
			}
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindDictionary, 0) {
				return false
			}
		default:
			i = other(b, i, tag, requestFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindRequest)
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
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindResourceItems)
			}
		}
		var start int
		switch {
		case tag == fieldItem<<3|wireLen:
			if start, i = extent(b, i); i >= 0 && !s.scopeGroup(b[start:i]) {
				return false
			}
			current = true
		case tag == 1<<3|wireLen:
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindResource, 0) {
				return false
			}
		case tag == 3<<3|wireLen:
			_, i = extent(b, i)
		case tag>>3 == fieldDeprecated && s.signal != Profiles:
			if tag&7 != wireLen {
				return s.fail(b, at, badWireType, kindResourceItems)
			}
			counted := s.items
			if start, i = extent(b, i); i >= 0 && !s.scopeGroup(b[start:i]) {
				return false
			}
			deprecated += s.items - counted
			s.items = counted
		default:
			i = other(b, i, tag, groupFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindResourceItems)
		}
	}
	if !current {
		s.items = before + deprecated
	}
	return s.items <= MaxItems || s.refuse(b, 0, ErrTooManyItems, kindResourceItems)
}

// scopeGroup checks ScopeSpans, ScopeMetrics, ScopeLogs or ScopeProfiles and counts the items in it.
func (s *scanner) scopeGroup(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindScopeItems)
			}
		}
		var start int
		switch tag {
		case fieldItem<<3 | wireLen:
			if start, i = extent(b, i); i >= 0 && !s.item(b[start:i]) {
				return false
			}
		case 1<<3 | wireLen:
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindScope, 0) {
				return false
			}
		case 3<<3 | wireLen:
			_, i = extent(b, i)
		default:
			i = other(b, i, tag, groupFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindScopeItems)
		}
	}
	return true
}

// item checks what stands in a scope group, and counts it.
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
