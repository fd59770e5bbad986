// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// The page: it takes statuses from the stream and shows them. It works out no verdict; the words are the status's own.
import { picture } from "./graph.js";

const SVG = "http://www.w3.org/2000/svg";
const drawn = new Set(["svg", "g", "path", "rect", "circle", "text", "title"]);

// h makes an element. Text is always text, whatever it says.
export function h(tag, set, ...children) {
  const el = drawn.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(set || {})) if (v !== undefined && v !== null && v !== false) el.setAttribute(k, v);
  for (const c of children.flat(Infinity)) if (c !== undefined && c !== null && c !== false && c !== "") el.append(c);
  return el;
}

// become makes the children of an element those of another one, and leaves alone what is the same: what somebody has
// marked stays marked, and nothing flickers.
function become(old, fresh) {
  const have = [...old.childNodes], want = [...fresh.childNodes];
  want.forEach((w, i) => {
    const o = have[i];
    if (!o) old.append(w);
    else if (o.nodeType !== w.nodeType || o.nodeName !== w.nodeName) o.replaceWith(w);
    else if (o.nodeType === Node.TEXT_NODE) { if (o.data !== w.data) o.data = w.data; }
    else {
      for (const a of [...o.attributes]) if (!w.hasAttribute(a.name)) o.removeAttribute(a.name);
      for (const a of w.attributes) if (o.getAttribute(a.name) !== a.value) o.setAttribute(a.name, a.value);
      become(o, w);
    }
  });
  for (const o of have.slice(want.length)) o.remove();
}
const put = (id, ...children) => become(document.getElementById(id), h("div", null, ...children));

// Marks: one shape for each tone.
const shapes = {
  good: [["circle", { class: "full", cx: 12, cy: 12, r: 10 }], ["path", { class: "on", d: "M7.5 12.5l3 3 6-6.5" }]],
  busy: [["circle", { cx: 12, cy: 12, r: 9.5 }], ["path", { d: "M12 17V8M8 11.5L12 7.5l4 4" }]],
  rest: [["circle", { cx: 12, cy: 12, r: 9.5 }], ["path", { d: "M8 12h8" }]],
  warn: [["path", { class: "full", d: "M12 3L22 20.5H2z" }], ["path", { class: "on", d: "M12 10v4.5M12 17.4v.1" }]],
  bad: [["rect", { class: "full", x: 2.5, y: 2.5, width: 19, height: 19, rx: 4 }], ["path", { class: "on", d: "M8 8l8 8M16 8l-8 8" }]],
};
export const mark = (tone, set) => h("svg", { viewBox: "0 0 24 24", class: "mark " + tone, "aria-hidden": "true", ...set },
  (shapes[tone] || shapes.rest).map(([tag, a]) => h(tag, a)));
const state = (tone, word) => h("span", { class: "state " + tone }, mark(tone), h("span", null, word));

// Numbers for people.
export const count = (n) => Math.round(n).toLocaleString("en-US");
export const rate = (n) => (n > 0 && n < 10 ? n.toFixed(1) : count(n)) + "/s";
export function long(s) {
  if (s < 1) return Math.round(s * 1000) + " ms";
  s = Math.round(s);
  const parts = s < 60 ? [[s, "s"]] : s < 3600 ? [[Math.floor(s / 60), "m"], [s % 60, "s"]]
    : s < 172800 ? [[Math.floor(s / 3600), "h"], [Math.floor(s % 3600 / 60), "m"]]
    : [[Math.floor(s / 86400), "d"], [Math.floor(s % 86400 / 3600), "h"]];
  return parts.filter(([n], i) => n || !i).map(([n, u]) => n + u).join("");
}
const size = (n) => { let u = 0; while (n >= 1024 && u < 5) { n /= 1024; u++; } return (u ? n.toFixed(1) : n) + " " + ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][u]; };
const clock = (t) => { const d = new Date(t); const today = new Date().toDateString() === d.toDateString();
  return (today ? "" : d.toLocaleDateString("en-CA") + " ") + d.toLocaleTimeString("en-GB"); };
const younger = 3; // seconds: what is younger in a queue passes through
export function outlook(q, d) {
  if (!q || !q.items || q.oldest_seconds < younger) return "";
  if (d.full_in_seconds !== undefined && d.full_in_seconds < 172800) return "full in " + long(d.full_in_seconds);
  if (d.full_in_seconds !== undefined) return "growing";
  if (d.empty_in_seconds !== undefined) return "empty in " + long(d.empty_in_seconds);
  return "";
}

const tones = { ok: "good", degraded: "warn", failing: "bad", unhealthy: "bad" };
const memberTones = { healthy: "good", suspect: "warn", down: "bad", probing: "bad", ramping: "busy", held: "warn" };
const marks = { info: "rest", warn: "warn", error: "bad" };
const first = (s) => (s || "").slice(0, 12);

function table(head, rows, empty) {
  if (!rows.length) return h("p", { class: "low" }, empty);
  return h("table", { class: "stack" }, h("thead", null, h("tr", null, head.map(([n, c]) => h("th", { class: c }, n)))),
    h("tbody", null, rows.map((r) => h("tr", null, r.map((v, i) =>
      h("td", { class: [head[i][1] || "", v === "" ? "none" : ""].join(" ").trim() || undefined, "data-of": head[i][0] }, v))))));
}

function showVerdict(s) {
  const tone = tones[s.verdict] || "bad";
  document.getElementById("verdict").className = "verdict " + tone;
  const [lead, ...more] = s.sentences && s.sentences.length ? s.sentences : [s.headline];
  put("verdict", mark(tone), h("div", null, h("div", { class: "word" }, s.verdict), h("p", { class: "lead" }, lead),
    h("p", { class: "more" }, more.join(" "))));
  document.title = s.verdict.toUpperCase() + " – Holdfast";
}

function showBooks(b) {
  const part = (n, word, sign) => h("span", null, sign ? h("span", { class: "op" }, sign + " ") : "", h("b", null, count(n)), " " + word);
  put("books", part(b.accepted, "accepted"), part(b.delivered, "delivered", "="), part(b.queued, "queued", "+"),
    part(b.parked, "parked", "+"), part(b.rejected, "rejected", "+"), part(b.dropped, "dropped", "+"),
    state(b.difference ? "bad" : "good", b.difference ? count(b.difference) + " not accounted for" : "every item accounted for"));
}

function showEvents(events) {
  put("events", events.slice(0, 100).map((e) => h("li", null, mark(marks[e.level] || "rest", { role: "img", "aria-label": e.level, "aria-hidden": undefined }),
    h("time", { datetime: e.time, title: e.time }, clock(e.time)),
    h("span", { class: "text", title: e.detail }, e.text, " ",
      h("span", { class: "who" }, (e.signals || []).join(", "), e.times > 1 ? " × " + e.times : "")))));
  if (!events.length) put("events", h("li", null, "nothing yet"));
}

function showQueues(s) {
  put("queues", table([["Destination", "name"], ["Pipeline"], ["State"], ["Items", "n"], ["Full", "n"], ["Oldest", "n"], ["In", "n"], ["Out", "n"], ["Outlook"], ["Kept"]],
    (s.destinations || []).map((d) => { const q = d.queue; return [d.name, d.pipeline,
      state(d.state === "ok" ? "good" : d.state === "failing" ? "bad" : "warn", d.state + (q && q.state !== "ok" && q.state ? ", queue " + q.state : "")),
      q ? count(q.items) : "", q && q.capacity ? (100 * q.share).toFixed(q.share < .1 && q.share > 0 ? 1 : 0) + " %" : "",
      q && q.oldest_seconds ? long(q.oldest_seconds) : "", rate(d.in_per_second), rate(d.out_per_second), outlook(q, d),
      q ? (q.durable ? "on disk" : "in memory") : "no queue"]; }), "No destinations."));
}

function showLevels(s) {
  const rows = [];
  for (const r of s.failover || []) for (const l of r.levels) for (const m of l.members || []) {
    const why = [];
    if (m.state !== "healthy" && m.evidence.error) why.push(m.evidence.error);
    if (m.next_probe_seconds !== undefined) why.push("next probe in " + long(m.next_probe_seconds));
    if (m.hold_down_seconds) why.push("not before " + long(m.hold_down_seconds));
    if (m.returns_when) why.push("returns with " + m.returns_when);
    rows.push([r.connector, r.signal, String(l.level), m.exporter, l.members.length > 1 ? state(memberTones[m.state] || "rest", m.state) : state(l.tone || "rest", l.word || m.state), rate(l.out_per_second), why.join("; ")]);
  }
  put("levels", table([["Destination", "name"], ["Signal"], ["Level", "n"], ["Exporter"], ["State"], ["Takes", "n"], ["Why, and what has to come", "why"]], rows, "No backends."));
}

function showConfig(c) {
  const line = (g) => [h("code", null, first(g.sha256) || "none"), g.generation ? " generation " + g.generation : "", g.sources && g.sources.length ? ", " + g.sources.join(", ") : ""];
  const run = c.trial_seconds > 0 ? state("busy", "on trial, another " + long(c.trial_seconds)) : state("good", c.running.evidence ? "committed, " + c.running.evidence.replaceAll("_", " ") : "running");
  const offer = c.drift ? state("warn", "not what runs") : state("good", "what runs");
  put("config", h("dl", null, h("dt", null, "Running"), h("dd", null, line(c.running), " ", run),
    c.offered && c.offered.sha256 ? [h("dt", null, "On offer"), h("dd", null, line(c.offered), " ", offer)] : "",
    c.good && c.good.sha256 ? [h("dt", null, "Falls back to"), h("dd", null, line(c.good))] : "",
    (c.attempts || []).slice(0, 4).map((a) => [h("dt", null, h("time", { datetime: a.time, title: a.time }, clock(a.time))),
      h("dd", null, state(a.state === "committed" || a.state === "unchanged" ? "good" : a.state === "superseded" ? "rest" : "warn", a.state.replaceAll("_", " ")),
        " ", h("code", null, first(a.sha256)), a.text ? " " + a.text.split("\n")[0] : "")])));
}

function showRoom(s) {
  const share = (used, of) => of > 0 ? " of " + size(of) + ", " + (100 * used / of).toFixed(used / of < .1 ? 1 : 0) + " %" : "";
  put("room", h("dl", null, (s.storage || []).map((d) => [h("dt", null, d.name), h("dd", null, size(d.bytes) + share(d.bytes, d.limit_bytes) + "; the volume has "
    + size(d.free_bytes) + " left" + (d.full_in_seconds !== undefined ? ", full in " + long(d.full_in_seconds) : ""), h("br"), h("code", null, d.directory))]),
  h("dt", null, "memory at the door"), h("dd", null, size(s.admission.bytes) + share(s.admission.bytes, s.admission.limit_bytes)),
  h("dt", null, "causes"), h("dd", null, (s.causes || []).length ? s.causes.map((c) => h("div", null, c)) : "none")));
}

const started = Date.now();
let last = null; // status
let heard = 0, spoke = started, silent = null; // times: of the last status, of any word, since when none came
let source = null, version = null;

function show() {
  if (!last) return;
  showVerdict(last); showBooks(last.books); showQueues(last); showLevels(last); showConfig(last.config); showRoom(last);
  put("picture", picture(last, document.getElementById("picture").clientWidth));
  put("process", `${last.version}, process ${last.pid}, ${last.phase}${last.up_since ? " for " + long((new Date(last.time) - new Date(last.up_since)) / 1000) : ""}`);
}

function take(text) {
  last = JSON.parse(text);
  if (last.events) showEvents(last.events);
  if (version && version !== last.version) return location.reload(); // another program, perhaps another page
  version = last.version; heard = spoke = Date.now(); silent = null;
  document.body.classList.remove("stale");
  const live = document.getElementById("live");
  live.className = "live"; live.textContent = "live, " + clock(last.time);
  show();
}

// mute says plainly that nobody answers, and since when.
function mute() {
  silent = silent || heard || Date.now();
  const for_ = long(Math.max(1, (Date.now() - silent) / 1000)), at = clock(silent);
  document.body.classList.add("stale");
  const live = document.getElementById("live");
  live.className = "live off"; live.textContent = "not answering since " + at;
  document.getElementById("verdict").className = "verdict bad";
  put("verdict", mark("bad"), h("div", null, h("div", { class: "word" }, "not answering"),
    h("p", { class: "lead" }, `Not answering since ${at}, for ${for_}.`),
    h("p", { class: "more" }, "This page asks again by itself." + (last ? " Below is how it was then: " + last.headline : ""))));
  document.title = "NOT ANSWERING – Holdfast";
}

function connect() {
  if (source) source.close();
  source = new EventSource("events");
  source.addEventListener("status", (e) => take(e.data));
  source.addEventListener("silent", () => { spoke = Date.now(); mute(); });
  source.onerror = () => { source.close(); source = null; }; // the next look begins another one
}

const quietTime = 4000; // without a word from a server that speaks every second
setInterval(() => {
  const now = Date.now();
  if (silent || now - (heard || started) > quietTime) mute();
  if (!source || now - spoke > 3 * quietTime) { spoke = now; connect(); }
}, 1000);
let width = 0;
new ResizeObserver(([e]) => { const w = Math.round(e.contentRect.width); if (w !== width) { width = w; show(); } }).observe(document.getElementById("picture"));
connect();
