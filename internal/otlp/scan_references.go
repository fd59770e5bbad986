// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Attributes of resources and scopes in a profiles request may name their keys and string values by index into the
// request's string table. The reference decoder resolves them at once and refuses what it cannot resolve, so this is
// part of the verdict. The dictionary may come last; hence a pass of its own, over bytes already found sound.

// meaning is what is left of the fields of a KeyValue or AnyValue when later ones have replaced earlier ones.
type meaning struct {
	hasKey   bool
	keyIndex int32
	value    uint // field number of the value in AnyValue; 0 = none
	index    int32
	start    int // of the list in the request, if the value is one
	end      int
}

// references checks the references of the profiles request b.
func (s *scanner) references(b []byte) bool {
	table := stringTable(b)
	for i := 0; i < len(b); {
		tag, start, end := next(b, i)
		i = end
		if tag != fieldGroup<<3|wireLen {
			continue
		}
		for group := b[:end]; start < end; {
			var from int
			tag, from, start = next(group, start)
			switch tag {
			case 1<<3 | wireLen: // resource
				if !s.attributeReferences(b[:start], from, 1, table) {
					return false
				}
			case fieldItem<<3 | wireLen:
				if !s.scopeReferences(b[:start], from, table) {
					return false
				}
			}
		}
	}
	return true
}

// scopeReferences checks the ScopeProfiles that starts at i and ends with b.
func (s *scanner) scopeReferences(b []byte, i, table int) bool {
	for i < len(b) {
		tag, start, end := next(b, i)
		i = end
		if tag == 1<<3|wireLen && !s.attributeReferences(b[:end], start, 3, table) {
			return false
		}
	}
	return true
}

// attributeReferences checks the fields of the given number, all of them KeyValues, in the message that starts at i and
// ends with b.
func (s *scanner) attributeReferences(b []byte, i int, number uint, table int) bool {
	type list struct{ at, end int } // a list that is being read
	var lists [MaxDepth + 1]list
	var pairs [MaxDepth + 1]bool // whether it holds pairs or values
	top := 0
	lists[0], pairs[0] = list{i, len(b)}, true
	for {
		l := &lists[top]
		if l.at == l.end {
			if top == 0 {
				return true
			}
			top--
			continue
		}
		tag, start, end := next(b[:l.end], l.at)
		l.at = end
		if top == 0 && tag>>3 != number || top > 0 && tag>>3 != 1 {
			continue
		}
		var m meaning
		if pairs[top] {
			m.pair(b[:end], start)
		} else {
			m.any(b[:end], start)
		}
		if !m.resolves(table) {
			return s.fail(b, start, badReference, kindKeyValue)
		}
		if m.value == 5 || m.value == 6 {
			top++
			lists[top], pairs[top] = list{m.start, m.end}, m.value == 6
		}
	}
}

// pair reads the KeyValue that starts at i and ends with b.
func (m *meaning) pair(b []byte, i int) {
	for i < len(b) {
		tag, start, end := next(b, i)
		i = end
		switch tag >> 3 {
		case 1:
			m.hasKey = end > start
		case 2:
			m.any(b[:end], start)
		case 3:
			v, _ := varint(b, start)
			m.keyIndex = int32(v)
		}
	}
}

// any reads the AnyValue that starts at i and ends with b.
func (m *meaning) any(b []byte, i int) {
	for i < len(b) {
		tag, start, end := next(b, i)
		i = end
		switch number := tag >> 3; number {
		case 1, 2, 3, 4, 7:
			m.value = number
		case 5, 6:
			m.value, m.start, m.end = number, start, end
		case 8:
			v, _ := varint(b, start)
			m.value, m.index = number, int32(v)
		}
	}
}

// resolves reports whether the reference decoder would find the strings in a table of n.
func (m *meaning) resolves(n int) bool {
	if m.hasKey && m.keyIndex != 0 {
		return false
	}
	if m.keyIndex < 0 || m.keyIndex > 0 && int(m.keyIndex) >= n {
		return false
	}
	return m.value != 8 || m.index >= 0 && int(m.index) < n
}

// stringTable counts the strings in the dictionary of the profiles request b.
func stringTable(b []byte) (n int) {
	for i := 0; i < len(b); {
		tag, start, end := next(b, i)
		i = end
		if tag != fieldDictionary<<3|wireLen {
			continue
		}
		for start < end {
			tag, _, start = next(b[:end], start)
			if tag == 5<<3|wireLen {
				n++
			}
		}
	}
	return n
}
