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

// fold is a list that opens when somebody wants it.
func (p *page) fold(title string, lines []string) {
	if len(lines) > 0 {
		p.raw("<details><summary>")
		p.text(fmt.Sprintf("%s (%d)", title, len(lines)))
		p.raw("</summary>")
		p.el("pre", strings.Join(lines, "\n"))
		p.raw("</details>\n")
	}
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

const style = `:root{--i:#222;--m:#666;--l:#ddd;--b:#fff;--c:#f6f6f6}
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:var(--i);background:var(--b)}
h1{margin-bottom:.2em}.v{font-size:1.15em;border-left:4px solid;padding:.4em .8em;background:var(--c)}.m{color:var(--m)}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2em .6em;border-bottom:1px solid var(--l);vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:2em;margin-bottom:.2em}p{margin:.4em 0}
pre{white-space:pre-wrap;background:var(--c);padding:.6em;font-size:13px;margin:.4em 0}a{color:inherit}
.passed{color:#176c2d}.failed{color:#b3161b;font-weight:bold}.inconclusive{color:#8a5a00}.skip{color:#777}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--m)}svg .w{fill:#b3161b;font-weight:600}
svg .s{fill:#d33;fill-opacity:.1}svg .f{fill:#d33;fill-opacity:.35}svg .t{stroke:#888;stroke-dasharray:2 3}svg .k{stroke:#b3161b;stroke-width:2}
svg .g{stroke:var(--l)}svg path.a{fill:none;stroke:var(--i);stroke-width:1.5}svg rect.a{fill:var(--i)}svg .q{fill:#8a94a3}svg .p{fill:#b8860b}
@media(prefers-color-scheme:dark){:root{--i:#ddd;--m:#aaa;--l:#333;--b:#16181c;--c:#1f2228}.passed{color:#6fcf86}.failed{color:#ff7b7b}
.inconclusive{color:#e5b567}svg .w{fill:#ff7b7b}}`

// HTML is the drill as one page that needs nothing else.
func (r *Report) HTML() string {
	p := &page{}
	p.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Holdfast drill</title>\n<style>" + style +
		"</style></head><body>\n")
	p.el("h1", "Holdfast drill: "+string(r.Outcome))
	p.el("p class=\"v "+class(r.Outcome)+"\"", r.Sentence())
	p.el("p class=\"m\"", fmt.Sprintf("%s · %s · %d scenarios in %s · holdfast %s", strings.Join(r.Config, " + "),
		r.Began.UTC().Format("2006-01-02 15:04 UTC"), len(r.Scenarios), r.Took.Round(time.Second), r.Version))
	p.raw("<table><tr><th>scenario<th>verdict<th class=\"n\">acknowledged<th class=\"n\">lost<th class=\"n\">twice<th class=\"n\">took</tr>\n")
	for i, s := range r.Scenarios {
		p.raw(fmt.Sprintf("<tr><td><a href=\"#s%d\">", i))
		p.text(s.Name)
		p.raw("</a>")
		p.el("td class=\""+class(s.Outcome)+"\"", strings.TrimSuffix(string(s.Outcome)+": "+strings.Join(s.promises(), "; "), ": "))
		p.el("td class=\"n\"", number(s.Acked))
		p.el("td class=\"n\"", number(s.Lost))
		p.el("td class=\"n\"", number(s.Twice))
		p.el("td class=\"n\"", fmt.Sprintf("%.1f s", s.Took.Seconds()))
		p.raw("</tr>\n")
	}
	p.raw("</table>\n")
	p.list("What this configuration costs by its plan, whatever a drill shows", r.Weak)
	p.list("Not as it was written, besides addresses and paths", r.Replaced)
	p.fold("Shorter than it was written", r.Hurried)
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
	p.el("p class=\"m\"", s.Title)
	p.el("p", s.Sentence())
	if why := s.Reasons(); len(why) > 0 {
		p.el("pre", strings.Join(why, "\n"))
	}
	if len(s.Samples) > 1 {
		r.picture(p, s)
	}
	var ours, all []string
	for _, e := range merged(s.Events) {
		line := fmt.Sprintf("%6.1f s  %-5s  %s", e.At, e.Who, e.Text)
		if e.Who != "log" {
			ours = append(ours, line)
		}
		all = append(all, line)
	}
	if len(ours) > 0 {
		p.el("pre", strings.Join(ours, "\n"))
	}
	if len(all) > len(ours) {
		if n := len(all) - maxEvents; n > 0 {
			all = append(all[:maxEvents], fmt.Sprintf("and %d more, in report.json", n))
		}
		p.raw("<details><summary>and what its log says</summary>")
		p.el("pre", strings.Join(all, "\n"))
		p.raw("</details>\n")
	}
}
