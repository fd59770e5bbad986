// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package page

import "github.com/chromedp/chromedp"

// faults lists what cannot be read: text that leaves its box in the picture, boxes that lie on each other, a page that is
// wider than the screen, letters too pale for their ground.
const faults = `(() => {
	const out = [], boxes = [...document.querySelectorAll("#picture g rect.node")].map((r) => r.getBoundingClientRect());
	boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
		if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1) out.push("boxes lie on each other"); }));
	for (const g of document.querySelectorAll("#picture g")) {
		const box = g.querySelector("rect.node"); if (!box) continue;
		const b = box.getBoundingClientRect(), texts = [...g.querySelectorAll("text")];
		for (const t of texts) { const r = t.getBoundingClientRect();
			if (r.left < b.left - 1 || r.right > b.right + 1 || r.top < b.top - 1 || r.bottom > b.bottom + 1) out.push("leaves its box: " + t.textContent); }
		texts.forEach((t, i) => texts.slice(i + 1).forEach((u) => { const p = t.getBoundingClientRect(), q = u.getBoundingClientRect();
			if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 4 && q.top < p.bottom - 4) out.push("lies on: " + t.textContent + " / " + u.textContent); }));
	}
	if (document.documentElement.scrollWidth > innerWidth) out.push("wider than the screen: " + document.documentElement.scrollWidth);
	const shade = (c) => { const [r, g, b] = c.match(/[\d.]+/g).map(Number).map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
	const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)|transparent/.test(c)) return c; } return "rgb(255,255,255)"; };
	if (!document.body.classList.contains("stale"))
		for (const e of document.querySelectorAll("main *, header *")) {
			if (e.closest("svg") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
			const a = shade(getComputedStyle(e).color), b = shade(ground(e)), contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
			if (contrast < 4.5) out.push("pale, " + contrast.toFixed(1) + ": " + e.textContent.slice(0, 40));
		}
	return [...new Set(out)].join("\n");
})()`

func (b *tab) check(name string, s screen) {
	b.Helper()
	var found string
	b.run(chromedp.Evaluate(faults, &found))
	if found != "" {
		b.Errorf("%s on %s:\n%s", name, s.name, found)
	}
}
