// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
)

// Sizes of a picture, in its own units.
const (
	width, height  = 960.0, 260.0
	left, right    = 60.0, 950.0
	top, bottom    = 40.0, 230.0
	maxTransitions = 12 // lines that are drawn; all are in the text below
)

var colours = []string{"#2a6fdb", "#e08a1e", "#8e44ad", "#16a085", "#c0392b", "#7f8c8d"}

// picture draws a scenario: items over time, what was acknowledged, what each backend has, what waits, and the times in
// which something was wrong.
func (r *Report) picture(p *page, s *Scenario) {
	end, most := s.Samples[len(s.Samples)-1].At, uint64(1)
	for _, m := range s.Samples {
		most = max(most, m.Acked, m.Queued, m.Parked)
		for _, d := range m.Delivered {
			most = max(most, d)
		}
	}
	end = max(end, 0.1)
	x := func(t float64) float64 { return left + (right-left)*min(max(t, 0), end)/end }
	y := func(n uint64) float64 { return bottom - (bottom-top)*float64(n)/float64(most) }
	p.raw(fmt.Sprintf("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"items over time\">", width, height))
	for i, f := range s.Faults {
		p.raw(fmt.Sprintf("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#d33\" fill-opacity=\".12\"><title>",
			x(f.From), top, max(x(f.To)-x(f.From), 1), bottom-top))
		p.text(fmt.Sprintf("%s: %s, %.1f s to %.1f s, %d hits", f.Where, f.Text, f.From, f.To, f.Hits))
		p.raw("</title></rect>")
		p.raw(fmt.Sprintf("<text x=\"%.1f\" y=\"%.1f\">", x(f.From)+2, top+12+float64(i%6)*12))
		p.text(f.Where + " " + f.Text)
		p.raw("</text>")
	}
	drawn := 0
	for _, e := range s.Events {
		if e.Who == "log" && drawn < maxTransitions {
			drawn++
			p.raw(fmt.Sprintf("<line x1=\"%[1]f\" x2=\"%[1]f\" y1=\"%.0f\" y2=\"%.0f\" stroke=\"#888\" stroke-dasharray=\"2 3\"><title>",
				x(e.At), top, bottom))
			p.text(fmt.Sprintf("%.1f s: %s", e.At, e.Text))
			p.raw("</title></line>")
		}
	}
	line := func(i int, name, colour, dash string, of func(Sample) uint64) {
		var points strings.Builder
		for _, m := range s.Samples {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(m.At), y(of(m)))
		}
		p.raw(fmt.Sprintf("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\" points=\"%s\"/>", colour, dash,
			points.String()))
		at := left + float64(i%6)*148
		p.raw(fmt.Sprintf("<rect x=\"%.0f\" y=\"%.0f\" width=\"10\" height=\"10\" fill=\"%s\"/><text x=\"%.0f\" y=\"%.0f\">", at,
			8+float64(i/6)*14, colour, at+14, 17+float64(i/6)*14))
		p.text(name)
		p.raw("</text>")
	}
	line(0, "acknowledged", "#222", "", func(m Sample) uint64 { return m.Acked })
	line(1, "queued", "#999", "4 3", func(m Sample) uint64 { return m.Queued })
	line(2, "parked", "#b8860b", "1 3", func(m Sample) uint64 { return m.Parked })
	for i, name := range r.Backends {
		line(3+i, name, colours[i%len(colours)], "", func(m Sample) uint64 {
			if i < len(m.Delivered) {
				return m.Delivered[i]
			}
			return 0
		})
	}
	for i := range 5 {
		t, n := end*float64(i)/4, most*uint64(i)/4
		p.raw(fmt.Sprintf("<text x=\"%.0f\" y=\"%.0f\">%.1f s</text>", x(t)-10, bottom+16, t))
		p.raw(fmt.Sprintf("<text x=\"4\" y=\"%.0f\">%d</text>", y(n)+4, n))
	}
	p.raw("</svg>\n")
}
