// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package screen lays a status out for a terminal: the verdict, where the data goes, the queues, what happened.
//
// It is the terminal's side of internal/status/page: the same words, in the same order, for whoever has a shell and no
// browser. A frame is worked out from a status and the size of the screen alone; it never has more lines than fit, and
// none is longer. What is shown first stays when there is little room. Colour never stands alone: every state has its
// word and its mark. It refuses to know terminals and where a status comes from.
package screen

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// Options say how a frame is drawn.
type Options struct {
	Width, Height int  // 0 height = as many lines as there are
	Colour        bool // SGR sequences
	ASCII         bool // no other characters
	// Silent is since when nobody has answered; zero = the status is fresh. Now is when the frame is shown.
	Silent, Now time.Time
	Hint        string // the last line, if there is one: what keys do
}

// The least that a frame is laid out for; a smaller screen shows its upper left.
const minWidth = 40

// style is how a piece of a line looks.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	green  style = "32"
	blue   style = "36"
	amber  style = "33"
	red    style = "31"
	banner style = "7" // reversed, with a colour before it
)

// piece is part of a line.
type piece struct {
	text  string
	style style
}

// line is one line of a frame.
type line []piece

func (l line) width() (n int) {
	for _, p := range l {
		n += utf8.RuneCountInString(p.text)
	}
	return n
}

// render is a line that is no longer than the screen is wide.
func (l line) render(o *Options) string {
	var b strings.Builder
	room := o.Width
	for i, p := range l {
		n := utf8.RuneCountInString(p.text)
		if n > room {
			p.text = string([]rune(p.text)[:max(room, 0)])
			n = room
		}
		room -= n
		if i == len(l)-1 && !(o.Colour && strings.HasSuffix(string(p.style), string(banner))) {
			p.text = strings.TrimRight(p.text, " ")
		}
		if o.Colour && p.style != plain && p.text != "" {
			b.WriteString("\x1b[" + string(p.style) + "m" + p.text + "\x1b[0m")
		} else {
			b.WriteString(p.text)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// block is lines that belong together; of one that does not fit, its first lines are shown, at least so many or none.
type block struct {
	lines []line
	least int
}

// Frame lays s out; nil = none has come yet.
func Frame(s *status.Status, o Options) []string {
	o.Width = max(o.Width, minWidth)
	var blocks []block
	if s == nil {
		blocks = []block{{lines: silent(nil, &o)}}
	} else {
		blocks = []block{{lines: verdict(s, &o)}, {picture(s, &o), 3}, {queues(s, &o), 3}, {books(s, &o), 1}, {events(s, &o), 2},
			{config(s, &o), 1}}
	}
	lines := fit(blocks, o.Height-len(hint(&o)))
	if o.Height > 0 && o.Hint != "" {
		for len(lines) < o.Height-1 {
			lines = append(lines, nil)
		}
		lines = append(lines, hint(&o)...)
	}
	if o.Height > 0 && len(lines) > o.Height {
		lines = lines[:o.Height]
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.render(&o)
	}
	return out
}

func hint(o *Options) []line {
	if o.Hint == "" {
		return nil
	}
	return []line{{{o.Hint, dim}}}
}

// fit takes blocks as long as there is room, with an empty line between two.
func fit(blocks []block, room int) []line {
	var out []line
	for _, b := range blocks {
		if len(b.lines) == 0 {
			continue
		}
		lines := b.lines
		if room > 0 {
			left := room - len(out) - min(len(out), 1)
			if left < len(lines) && left < b.least {
				continue
			}
			lines = lines[:min(max(left, 0), len(lines))]
		}
		if len(out) > 0 && len(lines) > 0 {
			out = append(out, nil)
		}
		out = append(out, lines...)
	}
	return out
}

// wrap breaks a text between words.
func wrap(text string, width int) []string {
	var out []string
	at := ""
	for _, word := range strings.Fields(text) {
		switch {
		case at == "":
			at = word
		case utf8.RuneCountInString(at)+1+utf8.RuneCountInString(word) > width:
			out = append(out, at)
			at = word
		default:
			at += " " + word
		}
	}
	return append(out, at)
}

// cut shortens a text and says so.
func (o *Options) cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	end := "…"
	if o.ASCII {
		end = "~"
	}
	return string([]rune(text)[:max(width-1, 0)]) + end
}

var tones = map[string]style{"good": green, "busy": blue, "rest": dim, "warn": amber, "bad": red}

// marks are one for each tone, and what stands for it where only ASCII is shown.
var marks = map[string][2]string{"good": {"✔", "+"}, "busy": {"↑", "^"}, "rest": {"·", "-"}, "warn": {"!", "!"}, "bad": {"✘", "x"}}

func (o *Options) mark(tone string) piece {
	m, ok := marks[tone]
	if !ok {
		m = marks["rest"]
	}
	if o.ASCII {
		return piece{m[1], tones[tone]}
	}
	return piece{m[0], tones[tone]}
}
