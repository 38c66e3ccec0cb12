// The status page: takes states from the node's event stream and shows them.

import { LeaderBand, LineChart, WINDOW_S } from "./charts.js";
import { age, bytes, count, element, fill, latency, percent, text } from "./tables.js";

const base = new URL(".", new URL("..", import.meta.url));
const SILENT_MS = 3500;
const AGAIN_MS = 2000;
// Single seconds jump; a figure to read is over these seconds.
const SMOOTH_S = 30;

let samples = [];
let state = null;
let source = null;
let heardAt = Date.now();
let paused = false;
const colours = new Map();

function colour(node) {
  if (!colours.has(node)) colours.set(node, (colours.size % 5) + 1);
  return colours.get(node);
}

const band = new LeaderBand(document.getElementById("leaders"), colour);
const chart = (id, options) => new LineChart(document.getElementById(id), options);
const charts = [
  chart("chart-throughput", { title: "Throughput", format: count, least: 10, series: [
    { key: "reads", label: "reads", css: "c1", area: true }, { key: "writes", label: "writes", css: "c2", area: true }] }),
  chart("chart-latency", { title: "Latency", format: latency, least: 0.002, series: [
    { key: "read_p50", label: "read p50", css: "c3" }, { key: "read_p99", label: "read p99", css: "c1" },
    { key: "write_p50", label: "write p50", css: "c4" }, { key: "write_p99", label: "write p99", css: "c2" }] }),
  chart("chart-hits", { title: "Hit rate", format: percent, top: 1, height: 130, series: [
    { key: "hit_rate", label: "hit rate", css: "c1", area: true }] }),
  chart("chart-failed", { title: "Failed requests", format: count, least: 1, height: 130, series: [
    { key: "unavailable", label: "failed", css: "c5", area: true }] }),
];

// --- the stream ---

function connect() {
  source?.close();
  source = new EventSource(new URL("status/events", base));
  source.onmessage = (event) => {
    heardAt = Date.now();
    take(JSON.parse(event.data));
  };
  source.onerror = () => {
    look();
    // After an answer that is no stream the browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
  };
}

function take(message) {
  if (message.kind === "history") {
    samples = message.samples;
    return;
  }
  const last = samples[samples.length - 1];
  if (last && message.sample.t < last.t) samples = [];
  if (!last || message.sample.t > last.t) samples.push(message.sample);
  samples = samples.filter((sample) => sample.t >= message.sample.t - WINDOW_S - 5);
  const before = state;
  state = message;
  look();
  if (!paused) show(before);
}

// Whether the node still talks to us; says so when it does not.
function look() {
  const silentMs = Date.now() - heardAt;
  const isLost = silentMs > SILENT_MS || (source.readyState !== EventSource.OPEN && silentMs > 1500);
  document.body.classList.toggle("lost", isLost);
  const live = document.getElementById("live");
  live.className = `live ${isLost ? "off" : paused ? "" : "on"}`;
  text("live-text", isLost ? "connection lost" : paused ? "paused" : "live");
  const notice = document.getElementById("notice");
  notice.hidden = !isLost;
  if (!isLost) {
    notice.replaceChildren();
    return;
  }
  const name = state?.node ?? "This node";
  let line = notice.firstElementChild;
  if (!line) {
    line = element("span");
    line.append(element("span"), ...otherPages());
    notice.replaceChildren(line);
  }
  line.firstElementChild.textContent =
    `${name} does not answer since ${age(silentMs / 1000)}; what you see is old. Trying again.`;
}

function otherPages() {
  const others = (state?.members ?? []).filter((member) => member.page && member.name !== state.node);
  return others.map((member) => {
    const link = element("a", "", `Look at ${member.name}`);
    link.href = `${location.protocol}//${member.page}/`;
    return link;
  });
}

// --- showing ---

function show(before) {
  const { members, leader } = state;
  for (const member of members) colour(member.name);
  document.title = `${leader || "no leader"} · ${state.cluster} · replcache`;
  document.body.classList.remove("waiting");
  text("cluster", state.cluster);
  text("watched", `seen by ${state.node}`);
  health(members, leader);
  if (before && before.leader !== leader)
    text("announce", leader ? `The leader is ${leader}, in term ${state.term}.` : "There is no leader.");
  tiles();
  fill("members", members.map(memberRow), "no members");
  check();
  band.show(samples);
  for (const one of charts) one.show(samples);
  tables();
  text("foot", `replcache ${state.version} · revision ${state.totals.revision}`);
}

function health(members, leader) {
  const up = members.filter((member) => member.state === "up").length;
  const halted = members.filter((member) => member.halted);
  const pill = document.getElementById("health");
  let [css, words] = ["good", `healthy · ${up} of ${members.length} nodes`];
  if (!leader || !state.has_quorum) [css, words] = ["bad", `no leader · ${up} of ${members.length} nodes`];
  else if (halted.length) [css, words] = ["bad", `${halted.map((one) => one.name).join(", ")} halted`];
  else if (up < members.length) [css, words] = ["warn", `degraded · ${up} of ${members.length} nodes`];
  pill.className = `pill ${css}`;
  text("health", words);
}

// Whether the replicas hold the same state.
function check() {
  const found = state.check;
  const line = document.getElementById("check");
  line.className = found && found[3] ? "pill bad" : "soft";
  if (!found) text("check", "");
  else if (found[3]) text("check", `The states differ: ${found[3]} (compared ${age(found[1])} ago at index ${found[0]})`);
  else text("check", `States compared ${age(found[1])} ago at index ${found[0]}: equal on ${found[2]}`);
}

function recent(key) {
  const now = samples[samples.length - 1]?.t ?? 0;
  return samples.filter((sample) => sample.t > now - SMOOTH_S && sample[key] !== null && sample[key] !== undefined);
}

function mean(key) {
  const found = recent(key);
  return found.length ? found.reduce((sum, sample) => sum + sample[key], 0) / found.length : null;
}

function latest(key) {
  const found = recent(key);
  return found.length ? found[found.length - 1][key] : null;
}

function tiles() {
  const { sample, totals } = state;
  text("tile-leader", state.leader || "none");
  const changes = totals.leader_changes;
  text("tile-leader-more", `term ${state.term} · ${changes} change${changes === 1 ? "" : "s"}`);
  text("tile-throughput", `${count(Math.round(sample.reads + sample.writes))}/s`);
  text("tile-throughput-more", `${count(Math.round(sample.reads))} read · ${count(Math.round(sample.writes))} written`);
  const hits = mean("hit_rate");
  text("tile-hits", percent(hits));
  text("tile-hits-more", hits === null ? "nothing was read" : `mean of ${SMOOTH_S} s`);
  text("tile-read", latency(latest("read_p99")));
  text("tile-read-more", `p50 ${latency(latest("read_p50"))}`);
  text("tile-write", latency(latest("write_p99")));
  text("tile-write-more", `p50 ${latency(latest("write_p50"))}`);
  text("tile-keys", `${count(totals.keys)} keys`);
  text("tile-keys-more", `${bytes(totals.bytes)} · ${count(totals.sessions)} session${totals.sessions === 1 ? "" : "s"}`);
}

function memberRow(member) {
  const isUp = member.state === "up";
  const role = member.halted ? "halted" : isUp ? member.role : member.state;
  const pill = member.halted || member.state === "unreachable" ? "bad" : !isUp || role === "candidate" || role === "joining" ? "warn"
    : role === "leader" ? "good" : "unknown";
  const isHere = member.name === state.node;
  const name = { text: member.name, css: "strong", swatch: colour(member.name), after: isHere ? " · this page" : "" };
  if (!isHere && member.page) name.href = `${location.protocol}//${member.page}/`;
  const lag = member.lag === null ? "–" : member.lag === 0 ? "0" : count(member.lag);
  const row = [
    name,
    { text: role, pill, css: "role", title: member.halted },
    member.term || "–",
    member.applied ? member.applied.toLocaleString("en").replaceAll(",", " ") : "–",
    isUp ? lag : { text: `${lag}`, title: "when it was last heard" },
    member.snapshot ? member.snapshot.toLocaleString("en").replaceAll(",", " ") : "–",
    count(member.streams),
    isUp ? age(member.uptime_s) : "–",
    { text: member.version || "–", css: "soft" },
    { text: member.address, css: "soft" },
  ];
  row.css = isUp ? "" : "down";
  row.name = member.name;
  return row;
}

function tables() {
  const hidden = state.shows_keys ? null : "names are hidden here (setting status_keys)";
  const { hot_reads: reads, hot_writes: writes } = state;
  const hot = Array.from({ length: Math.min(10, Math.max(reads.length, writes.length)) }, (_, index) => {
    const cell = (row) => (row ? [{ text: row[0], css: "mono" }, { text: count(row[1]), title: row[2] ? `at most ${row[2]} too many` : "exact" }] : ["", ""]);
    return [...cell(reads[index]), ...cell(writes[index])];
  });
  fill("hot", hot, hidden ?? "nothing was read or written yet");
  fill("namespaces", state.namespaces.map(spaceRow), "none: all keys share one space without a quota");
  const { locks, totals } = state;
  text("locks-total", totals.locks ? `${count(totals.locks)} in all, ${count(totals.lock_waits)} waiting callers` : "");
  fill("locks", locks.map(lockRow), "nobody holds a lock");
  text("watches-total", totals.watches ? `${count(totals.watches)} in all` : "");
  fill("watches", state.watches.map(([node, what, number, waiting]) => [
    node, { text: what, css: "mono" }, count(number), count(waiting)]), totals.watches ? hidden ?? "…" : "nobody watches");
  fill("events", state.events.map(([at, node, level, event, details]) => [
    { text: at.slice(11, 19), title: at, css: "soft mono" }, node,
    { text: event.replaceAll("_", " "), css: level }, { text: details, css: "soft" }]), "nothing happened yet");
}

function spaceRow(space) {
  const [hits, misses, , , evicted] = space.counts ?? [0, 0, 0, 0, 0];
  const used = space.max_bytes
    ? { text: `${bytes(space.bytes)} of ${bytes(space.max_bytes)}`, share: space.bytes / space.max_bytes, title: space.policy }
    : { text: space.bytes === undefined ? "–" : bytes(space.bytes) };
  return [
    { text: space.name || "(all others)", css: "strong" }, { text: space.prefix ?? "", css: "mono" },
    space.keys === undefined ? "–" : `${count(space.keys)}${space.complete ? "" : "+"}`, used,
    percent(hits + misses ? hits / (hits + misses) : null), count(evicted)];
}

function lockRow(lock) {
  const [holder] = lock.first_holders;
  const more = lock.holders > 1 ? ` and ${count(lock.holders - 1)} more` : "";
  const waiting = lock.first_waiters.map((one) => one.note || one.owner).join(", ");
  const kind = lock.permits > 1 ? ` · ${lock.holders} of ${lock.permits} permits` : holder?.shared ? " · shared" : "";
  return [
    { text: lock.name, css: "mono", after: kind },
    { text: holder ? `${holder.note || holder.owner}${more}` : "–", css: "mono", title: holder?.owner ?? "" },
    holder ? String(holder.token) : "–",
    holder ? (holder.left_ms ? age(holder.left_ms / 1000) : "with its lease") : "–",
    lock.waiters ? { text: `${count(lock.waiters)} waiting`, title: waiting, after: waiting ? ` · first: ${lock.first_waiters[0].note || lock.first_waiters[0].owner}` : "" } : { text: "empty", css: "soft" },
  ];
}

// --- buttons ---

document.getElementById("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  event.target.textContent = paused ? "Go on" : "Pause";
  look();
  if (!paused && state) show(state);
});

const themes = ["auto", "light", "dark"];
function theme(name) {
  document.documentElement.dataset.theme = name;
  document.getElementById("theme").textContent = name[0].toUpperCase() + name.slice(1);
  localStorage.setItem("theme", name);
}
document.getElementById("theme").addEventListener("click", () => {
  theme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);
});
theme(themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");

connect();
setInterval(look, 500);
