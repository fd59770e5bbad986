// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"strings"
)

// Sizes of a picture, in its own units: lanes of faults, what arrives, what waits.
const (
	width       = 960.0
	left, right = 64.0, 950.0
	lane        = 16.0 // of a place where something was wrong
	legend      = 24.0
	flow        = 130.0 // height of what arrives
	between     = 22.0
	wait        = 60.0 // height of what waits
	axis        = 22.0

	maxLanes       = 6
	maxBins        = 90
	minBin         = 0.5 // seconds
	maxTransitions = 16  // lines that are drawn; all are in the text below
)

var colours = []string{"#2a6fdb", "#e08a1e", "#8e44ad", "#16a085", "#c0392b", "#7f8c8d"}

// plot is a picture in the making.
type plot struct {
	*page
	r    *Report
	s    *Scenario
	end  float64 // seconds
	bin  float64
	bins int
	top  float64 // of what arrives
}

// picture draws a scenario: above, who was wrong and when; in the middle, items a second, acknowledged and by backend;
// below, what waits in the queue and in the emergency file.
func (r *Report) picture(p *page, s *Scenario) {
	d := &plot{page: p, r: r, s: s, end: max(s.Samples[len(s.Samples)-1].At, 1)}
	d.bin = max(minBin, d.end/maxBins)
	d.bins = int(math.Ceil(d.end / d.bin))
	lanes := d.lanes()
	d.top = legend + float64(len(lanes))*lane + 6
	height := d.top + flow + between + wait + axis
	d.raw(fmt.Sprintf("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"items over time\">", width, height))
	d.faults(lanes, height-axis)
	d.transitions(height - axis)
	d.arrives()
	d.waits()
	d.times(height)
	d.raw("</svg>\n")
}

func (d *plot) x(t float64) float64 { return left + (right-left)*min(max(t, 0), d.end)/d.end }

// lanes are the places where something was wrong, in order of time.
func (d *plot) lanes() (out []string) {
	seen := map[string]bool{}
	for _, f := range d.s.Faults {
		if !seen[f.Where] && len(out) < maxLanes {
			seen[f.Where] = true
			out = append(out, f.Where)
		}
	}
	return out
}

// faults draws a bar in the lane of its place for each, and a shade through everything below it.
func (d *plot) faults(lanes []string, bottom float64) {
	for _, f := range d.s.Faults {
		from, wide := d.x(f.From), max(d.x(f.To)-d.x(f.From), 2)
		for i, where := range lanes {
			if where != f.Where {
				continue
			}
			y := legend + float64(i)*lane
			d.raw(fmt.Sprintf("<rect class=\"s\" x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\"/>", from, y+lane-2, wide, bottom-y-lane+2))
			d.raw(fmt.Sprintf("<rect class=\"f\" x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\"><title>", from, y, wide, lane-2))
			d.text(fmt.Sprintf("%s: %s, %.1f s to %.1f s, %d hits", f.Where, f.Text, f.From, f.To, f.Hits))
			d.raw("</title></rect>")
			anchor, at := "start", from+3
			if from > (left+right)*2/3 {
				anchor, at = "end", from-3
			}
			d.raw(fmt.Sprintf("<text class=\"w\" x=\"%.0f\" y=\"%.0f\" text-anchor=\"%s\">", at, y+11, anchor))
			d.text(f.Where + ": " + f.Text)
			d.raw("</text>")
		}
	}
}

// transitions draws a line where the drill ended the process, and where data began to go elsewhere.
func (d *plot) transitions(bottom float64) {
	drawn := 0
	for _, e := range merged(d.s.Events) {
		death := e.Who == "drill" && (strings.HasPrefix(e.Text, "kill -9") || strings.HasPrefix(e.Text, "SIG"))
		if drawn < maxTransitions && (death || strings.HasPrefix(e.Text, "active level changed")) {
			class := "t"
			if death {
				class = "k"
			}
			drawn++
			d.raw(fmt.Sprintf("<line class=\"%s\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.0f\" y2=\"%.0f\"><title>", class, d.x(e.At), d.x(e.At), d.top, bottom))
			d.text(fmt.Sprintf("%.1f s: %s", e.At, e.Text))
			d.raw("</title></line>")
		}
	}
}

// at is a count at a time, between two samples.
func (d *plot) at(t float64, of func(*Sample) uint64) float64 {
	all := d.s.Samples
	for i := range all {
		if all[i].At < t {
			continue
		}
		if i == 0 || all[i].At == all[i-1].At {
			return float64(of(&all[i]))
		}
		a, b := float64(of(&all[i-1])), float64(of(&all[i]))
		return a + (b-a)*(t-all[i-1].At)/(all[i].At-all[i-1].At)
	}
	return float64(of(&all[len(all)-1]))
}

// rates are items a second, by bin.
func (d *plot) rates(of func(*Sample) uint64) []float64 {
	out := make([]float64, d.bins)
	for i := range out {
		from, to := float64(i)*d.bin, min(float64(i+1)*d.bin, d.end)
		if to > from {
			out[i] = max(d.at(to, of)-d.at(from, of), 0) / (to - from)
		}
	}
	return out
}

func delivered(i int) func(*Sample) uint64 {
	return func(m *Sample) uint64 {
		if i < len(m.Delivered) {
			return m.Delivered[i]
		}
		return 0
	}
}

// arrives stacks what each backend got on top of the others, and draws what was acknowledged as a line.
func (d *plot) arrives() {
	acked := d.rates(func(m *Sample) uint64 { return m.Acked })
	sum := make([]float64, d.bins)
	stacks := [][]float64{append([]float64{}, sum...)}
	for i := range d.r.Backends {
		for k, v := range d.rates(delivered(i)) {
			sum[k] += v
		}
		stacks = append(stacks, append([]float64{}, sum...))
	}
	most := 1.0
	for k := range sum {
		most = max(most, sum[k], acked[k])
	}
	most = nice(most)
	bottom := d.top + flow
	y := func(v float64) float64 { return bottom - flow*v/most }
	for i := range d.r.Backends {
		d.raw(fmt.Sprintf("<path fill=\"%s\" fill-opacity=\".75\" d=\"%s\"/>", colours[i%len(colours)], d.area(stacks[i], stacks[i+1], y)))
	}
	d.raw(fmt.Sprintf("<path class=\"a\" d=\"%s\"/>", d.steps(acked, y, "M")))
	d.scale(bottom, flow, most, "items/s")
	d.legend(0, "a", "", "acknowledged")
	for i, name := range d.r.Backends {
		d.legend(1+i, "", colours[i%len(colours)], name)
	}
	d.legend(1+len(d.r.Backends), "q", "", "waits: queue")
	d.legend(2+len(d.r.Backends), "p", "", "emergency file")
}

// waits stacks what is in the queue and what is parked.
func (d *plot) waits() {
	zero, queue, both := make([]float64, d.bins), make([]float64, d.bins), make([]float64, d.bins)
	most := 1.0
	for i := range queue {
		t := (float64(i) + .5) * d.bin
		queue[i] = d.at(t, func(m *Sample) uint64 { return m.Queued })
		both[i] = queue[i] + d.at(t, func(m *Sample) uint64 { return m.Parked })
		most = max(most, both[i])
	}
	most = nice(most)
	bottom := d.top + flow + between + wait
	y := func(v float64) float64 { return bottom - wait*v/most }
	d.raw(fmt.Sprintf("<path class=\"q\" d=\"%s\"/><path class=\"p\" d=\"%s\"/>", d.area(zero, queue, y), d.area(queue, both, y)))
	d.scale(bottom, wait, most, "items wait")
}

// steps is a line with a step for each bin.
func (d *plot) steps(values []float64, y func(float64) float64, first string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%.0f %.0f", first, d.x(0), y(values[0]))
	last := math.NaN()
	for i, v := range values {
		if at := math.Round(y(v)); at != last {
			fmt.Fprintf(&b, "H%.0fV%.0f", d.x(float64(i)*d.bin), at)
			last = at
		}
	}
	fmt.Fprintf(&b, "H%.0f", d.x(d.end))
	return b.String()
}

// area is what is between two lines of steps.
func (d *plot) area(low, high []float64, y func(float64) float64) string {
	var b strings.Builder
	b.WriteString(d.steps(high, y, "M"))
	last := math.NaN()
	for i := len(low) - 1; i >= 0; i-- {
		if at := math.Round(y(low[i])); at != last {
			fmt.Fprintf(&b, "H%.0fV%.0f", d.x(float64(i+1)*d.bin), at)
			last = at
		}
	}
	fmt.Fprintf(&b, "H%.0fZ", d.x(0))
	return b.String()
}

// scale draws the axis of a part.
func (d *plot) scale(bottom, height, most float64, unit string) {
	for _, share := range []float64{0, .5, 1} {
		y := bottom - height*share
		d.raw(fmt.Sprintf("<line class=\"g\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.0f\" y2=\"%.0f\"/><text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">", left,
			right, y, y, left-5, y+4))
		d.text(number(uint64(most * share)))
		d.raw("</text>")
	}
	d.raw(fmt.Sprintf("<text x=\"%.0f\" y=\"%.0f\">", left+4, bottom-height+11))
	d.text(unit)
	d.raw("</text>")
}

func (d *plot) legend(i int, class, colour, name string) {
	x, at := left+float64(i)*126, ""
	if colour != "" {
		at = fmt.Sprintf(" fill=\"%s\"", colour)
	}
	d.raw(fmt.Sprintf("<rect class=\"%s\"%s x=\"%.0f\" y=\"5\" width=\"10\" height=\"10\"/><text x=\"%.0f\" y=\"14\">", class, at, x, x+14))
	if r := []rune(name); len(r) > 18 {
		name = string(r[:17]) + "…"
	}
	d.text(name)
	d.raw("</text>")
}

// times draws the seconds.
func (d *plot) times(height float64) {
	every := 1.0
	for _, every = range []float64{1, 2, 5, 10, 20, 30, 60, 120, 300} {
		if d.end/every <= 10 {
			break
		}
	}
	for t := 0.0; t <= d.end; t += every {
		d.raw(fmt.Sprintf("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%.0f s</text>", d.x(t), height-6, t))
	}
}

// nice is the next number that people like on an axis.
func nice(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10} {
		if v <= n*unit {
			return n * unit
		}
	}
	return v
}
