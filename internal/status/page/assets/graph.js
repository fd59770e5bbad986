// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// The picture: receivers, the queues behind them, and the levels that each queue is emptied to, in order of preference.
// Signals that go the same way are drawn as one. It is laid out for the width there is and never scaled.
import { h, mark, count, rate, long, outlook } from "./page.js";

const ranks = ["rest", "good", "busy", "warn", "bad"]; // of several tones the last one is shown
const narrow = 620; // pixels below which everything stands under each other
const gap = 12; // between two boxes
const line = 19; // of text

// gathered is the status as boxes: sources, and destinations with their levels.
function gathered(s) {
  const dests = new Map(), sources = new Map(), pipelines = new Map((s.pipelines || []).map((p) => [p.id, p]));
  for (const d of s.destinations || []) {
    if (d.state === "parked" || !pipelines.has(d.pipeline)) continue;
    if (!dests.has(d.name)) dests.set(d.name, { name: d.name, in: 0, out: 0, items: 0, oldest: 0, share: 0, looks: [], levels: [], queue: false, durable: true, state: "ok", parked: 0 });
    const to = dests.get(d.name), q = d.queue;
    to.in += d.in_per_second; to.out += d.out_per_second;
    if (q) {
      to.queue = true; to.items += q.items; to.durable &&= q.durable;
      to.oldest = Math.max(to.oldest, q.oldest_seconds); to.share = Math.max(to.share, q.share);
      if (q.state && q.state !== "ok") to.state = q.state;
      if (outlook(q, d)) to.looks.push(d.full_in_seconds !== undefined ? [1, -d.full_in_seconds, outlook(q, d)] : [0, d.empty_in_seconds || 0, outlook(q, d)]);
    }
    const p = pipelines.get(d.pipeline), name = (p.receivers || []).join(", ") || p.id;
    if (!sources.has(name)) sources.set(name, { name, in: 0, to: new Map(), seen: new Set(), shut: false });
    const from = sources.get(name);
    if (!from.seen.has(p.id)) { from.seen.add(p.id); from.in += p.in_per_second; from.shut ||= !p.accepting && s.phase === "running"; }
    from.to.set(d.name, (from.to.get(d.name) || 0) + d.in_per_second);
  }
  for (const r of s.failover || []) {
    const to = dests.get(r.connector);
    if (!to) continue;
    to.parked += r.emergency.items;
    r.levels.forEach((l, i) => {
      const at = to.levels[i] ||= { name: l.name, emergency: !!l.emergency, out: 0, tones: [] };
      at.out += l.out_per_second;
      const since = Math.min(...(l.members || []).map((m) => (m.down_since ? Date.parse(m.down_since) : Infinity)));
      at.tones.push({ tone: l.tone || "rest", word: l.word || l.state, signal: r.signal, since });
    });
  }
  for (const d of dests.values()) for (const l of d.levels) {
    const worse = (a, b) => ranks.indexOf(a.tone) - ranks.indexOf(b.tone) || b.since - a.since;
    const worst = l.tones.reduce((a, b) => (worse(b, a) > 0 ? b : a));
    const alike = l.tones.filter((t) => t.tone === worst.tone);
    l.tone = worst.tone;
    l.word = worst.word + (alike.length < l.tones.length ? ` (${alike.map((t) => t.signal).join(", ")})` : "");
  }
  return { sources: [...sources.values()], dests: [...dests.values()] };
}

const pen = document.createElement("canvas").getContext("2d");
// fit cuts a text to a width in pixels.
function fit(text, width, font) {
  pen.font = font + " " + getComputedStyle(document.body).fontFamily;
  if (pen.measureText(text).width <= width) return text;
  while (text && pen.measureText(text + "…").width > width) text = text.slice(0, -1);
  return text.trimEnd() + "…";
}

// box draws one box: a mark, a name, a rate, and lines of text below.
function box(b) {
  const left = b.x + 14 + (b.tone ? 22 : 0), right = b.x + b.w - 12;
  const rateText = b.rate === undefined ? "" : rate(b.rate);
  pen.font = "650 13px sans-serif";
  const room = right - left - (rateText ? pen.measureText(rateText).width + 14 : 0);
  return h("g", { class: [b.tone, b.tinted ? "tinted" : ""].join(" ").trim() || "rest" }, h("title", null, [b.name, b.title].filter(Boolean).join(": ")),
    h("rect", { class: "node", x: b.x + .5, y: b.y + .5, width: b.w - 1, height: b.h - 1, rx: 8 }),
    b.tone ? mark(b.tone, { x: b.x + 11, y: b.y + 11, width: 18, height: 18 }) : "",
    h("text", { class: "name", "data-name": b.name, x: left, y: b.y + 25 }, fit(b.name, room, "650 15px")),
    rateText ? h("text", { class: "rate" + (b.rate > 0 ? " flows" : ""), x: right, y: b.y + 25 }, rateText) : "",
    b.lines.map(([kind, text], i) => h("text", { class: kind, x: left, y: b.y + 25 + line * (i + 1) }, fit(text, right - left, "600 13.5px"))),
    b.bar === undefined ? "" : [h("rect", { class: "track", x: left, y: b.y + b.h - 18, width: right - left, height: 8, rx: 4 }),
      b.bar > 0 ? h("rect", { class: "fill", x: left, y: b.y + b.h - 18, width: Math.max(4, (right - left) * Math.min(b.bar, 1)), height: 8, rx: 4 }) : ""]);
}

function sourceBox(s) {
  return { name: s.name, rate: s.in, h: 62, tone: s.shut ? "bad" : "", tinted: s.shut,
    lines: [s.shut ? ["word", "refuses new data"] : ["small", "receives"]] };
}

function queueBox(d) {
  if (!d.queue) return { name: d.name, h: 62, lines: [["small", "no queue: the sender waits"]], rate: d.out };
  const look = d.looks.sort((a, b) => b[0] - a[0] || b[1] - a[1]).map((l) => l[2])[0];
  const ill = d.state !== "ok", lines = [["small", "queue: " + count(d.items) + " waiting"]];
  const old = d.oldest >= 1 ? "oldest " + long(d.oldest) : "", kept = d.durable ? "kept on disk" : "in memory only";
  lines.push(ill ? ["word", "queue " + d.state] : ["small", [old, look].filter(Boolean).join(", ") || kept]);
  return { name: d.name, title: lines.map((l) => l[1]).join(", "), rate: d.out, h: 102, tone: ill ? "bad" : d.share >= .8 ? "warn" : "", tinted: ill, lines, bar: d.share };
}

function levelBox(l, d) {
  const [word, ...why] = l.word.split(": "), lines = [["word", word]];
  if (why.length) lines.push(["small", why.join(": ")]);
  if (l.emergency && d.parked) lines.push(["small", count(d.parked) + " items in it, safe"]);
  return { name: l.name, title: l.word, rate: l.out, h: 43 + line * lines.length, tone: l.tone, tinted: l.tone !== "rest", lines };
}

// link is a line from one box to another, as thick as what flows.
function link(path, flow, most) {
  const flows = flow > 0.05;
  return [h("path", { class: "link" + (flows ? " flows" : ""), d: path, "stroke-width": flows ? (3 + 13 * Math.sqrt(flow / most)).toFixed(1) : "1.5" }),
    flows ? h("path", { class: "pulse", d: path }) : ""];
}

const curve = (a, b) => { const x1 = a.x + a.w, y1 = a.y + a.h / 2, x2 = b.x, y2 = b.y + b.h / 2, m = (x1 + x2) / 2; return `M${x1} ${y1}C${m} ${y1} ${m} ${y2} ${x2} ${y2}`; };

export function picture(s, width) {
  const { sources, dests } = gathered(s);
  if (!width || !dests.length) return h("p", { class: "low" }, s.phase === "starting" ? "Nothing runs yet." : "No pipelines.");
  const most = Math.max(1, ...sources.flatMap((x) => [...x.to.values()]), ...dests.flatMap((d) => d.levels.map((l) => l.out)));
  const lay = width < narrow ? below : beside;
  const { boxes, links, height } = lay(sources, dests, width);
  const words = dests.map((d) => `${d.name}: ` + d.levels.map((l) => `${l.name} ${l.word}, ${rate(l.out)}`).join("; ")).join(". ");
  return h("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    links.map(([path, flow]) => link(path, flow, most)), boxes.map(box));
}

// beside puts sources, queues and levels beside each other.
function beside(sources, dests, width) {
  const narrowest = 64, sw = Math.min(170, width * .2), qw = Math.min(230, width * .28), lw = Math.min(360, width - sw - qw - 2 * narrowest);
  const between = (width - sw - qw - lw) / 2, boxes = [], links = [], at = new Map();
  let y = 0;
  for (const d of dests) {
    const levels = d.levels.map((l) => levelBox(l, d)), q = queueBox(d);
    const tall = Math.max(q.h, levels.reduce((n, l) => n + l.h + gap, -gap));
    Object.assign(q, { x: sw + between, w: qw, y: y + (tall - q.h) / 2 });
    let ly = y + (tall - levels.reduce((n, l) => n + l.h + gap, -gap)) / 2;
    levels.forEach((l, i) => {
      Object.assign(l, { x: width - lw, w: lw, y: ly });
      ly += l.h + gap;
      links.push([curve(q, l), d.levels[i].out]);
    });
    at.set(d.name, q); boxes.push(q, ...levels);
    y += tall + 2 * gap;
  }
  const height = Math.max(y - 2 * gap, sources.length * (62 + gap) - gap);
  const boxed = sources.map(sourceBox), total = boxed.reduce((n, b) => n + b.h + gap, -gap);
  let sy = (height - total) / 2;
  boxed.forEach((b, i) => {
    Object.assign(b, { x: 0, w: sw, y: sy });
    sy += b.h + gap;
    for (const [name, flow] of sources[i].to) links.push([curve(b, at.get(name)), flow]);
  });
  return { boxes: boxes.concat(boxed), links, height };
}

// below puts them under each other. Lines from several sources, or past a destination, would run through other boxes: then
// each queue says where its data comes from.
function below(sources, dests, width) {
  const boxes = [], links = [], step = 26, indent = 44, plain = sources.length === 1 && dests.length === 1;
  let y = 0;
  for (const s of sources) {
    boxes.push(Object.assign(sourceBox(s), { x: 0, w: width, y }));
    y += boxes.at(-1).h + gap;
  }
  y += step - gap;
  for (const d of dests) {
    const q = Object.assign(queueBox(d), { x: 0, w: width, y });
    if (plain) links.push([`M${width / 2} ${boxes[0].h}V${y}`, sources[0].to.get(d.name)]);
    else { q.lines.push(["small", "from " + [...new Set(sources.filter((s) => s.to.has(d.name)).flatMap((s) => s.name.split(", ")))].join(", ")]); q.h += line; }
    y += q.h + step; boxes.push(q);
    for (const l of d.levels) {
      const b = Object.assign(levelBox(l, d), { x: indent, w: width - indent, y });
      links.push([`M${indent / 2} ${q.y + q.h}V${b.y + b.h / 2 - 8}q0 8 8 8H${indent}`, l.out]);
      y += b.h + gap; boxes.push(b);
    }
    y += step - gap;
  }
  return { boxes, links, height: y - step };
}
