// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// page writes a document. Everything that is not a constant of this file goes through text or attr.
type page struct{ strings.Builder }

func (p *page) raw(markup string) { p.WriteString(markup) }
func (p *page) text(s string)     { p.WriteString(html.EscapeString(s)) }

// el writes an element with text in it; open is its tag, as `td class="n"`.
func (p *page) el(open, text string) {
	tag, _, _ := strings.Cut(open, " ")
	p.raw("<" + open + ">")
	p.text(text)
	p.raw("</" + tag + ">")
}

func (p *page) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	p.el("h2", title)
	p.raw("<ul>")
	for _, l := range lines {
		p.el("li", l)
	}
	p.raw("</ul>\n")
}

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25em .6em;border-bottom:1px solid #ddd;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:1.6em}pre{white-space:pre-wrap;background:#f6f6f6;padding:.6em}
.passed{color:#176c2d}.failed{color:#b3161b;font-weight:bold}.inconclusive{color:#8a5a00}.skip{color:#777}
svg{width:100%;height:auto;border:1px solid #ddd;background:#fff}svg text{font:11px system-ui,sans-serif;fill:#444}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}td,th{border-color:#333}pre{background:#1f2228}svg{background:#1b1d22}
svg text{fill:#bbb}.passed{color:#6fcf86}.failed{color:#ff7b7b}.inconclusive{color:#e5b567}}`

// HTML is the drill as one page that needs nothing else.
func (r *Report) HTML() string {
	p := &page{}
	p.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Holdfast drill</title>\n<style>" + style +
		"</style></head><body>\n")
	p.el("h1", "Holdfast drill: "+string(r.Outcome))
	p.el("p", fmt.Sprintf("%s, %s, %d scenarios in %s; %s", strings.Join(r.Config, " + "), r.Began.UTC().Format(time.RFC3339),
		len(r.Scenarios), r.Took.Round(time.Second), r.Version))
	p.raw("<table><tr><th>scenario<th>verdict<th>acknowledged<th>lost<th>twice<th>took</tr>\n")
	for i, s := range r.Scenarios {
		p.raw(fmt.Sprintf("<tr><td><a href=\"#s%d\">", i))
		p.text(s.Name)
		p.raw("</a>")
		p.el("td class=\""+class(s.Outcome)+"\"", string(s.Outcome))
		p.el("td class=\"n\"", fmt.Sprint(s.Acked))
		p.el("td class=\"n\"", fmt.Sprint(s.Lost))
		p.el("td class=\"n\"", fmt.Sprint(s.Twice))
		p.el("td class=\"n\"", fmt.Sprintf("%.1f s", s.Took.Seconds()))
		p.raw("</tr>\n")
	}
	p.raw("</table>\n")
	p.list("What this configuration costs by its plan, whatever a drill shows", r.Weak)
	p.list("Not as it was written, besides addresses and paths", r.Replaced)
	p.list("Shorter than it was written", r.Hurried)
	for i, s := range r.Scenarios {
		r.scenario(p, i, s)
	}
	p.raw("</body></html>\n")
	return p.String()
}

func class(o Outcome) string {
	if o == NotApplicable {
		return "skip"
	}
	return string(o)
}

func (r *Report) scenario(p *page, i int, s *Scenario) {
	p.raw(fmt.Sprintf("<h2 id=\"s%d\">", i))
	p.text(s.Name)
	p.raw(": ")
	p.el("span class=\""+class(s.Outcome)+"\"", string(s.Outcome))
	p.raw("</h2>\n")
	p.el("p", strings.TrimSpace(s.Title+" "+s.Why))
	if why := s.Reasons(); len(why) > 0 {
		p.el("pre", strings.Join(why, "\n"))
	}
	if len(s.Samples) > 1 {
		r.picture(p, s)
	}
	if len(s.Events) > 0 {
		p.raw("<details><summary>what happened</summary><pre>")
		for _, e := range s.Events {
			p.text(fmt.Sprintf("%6.1f s  %-5s  %s\n", e.At, e.Who, e.Text))
		}
		p.raw("</pre></details>\n")
	}
}
