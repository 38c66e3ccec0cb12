// Small line charts and the band of leaders, drawn as SVG. Text is set as text, never as markup.

const NS = "http://www.w3.org/2000/svg";
export const WINDOW_S = 180;
// Samples further apart than this are no line: nobody looked in between.
const GAP_S = 3.5;
const MARGIN = { left: 46, right: 8, top: 8, bottom: 20 };

export function svg(name, attributes = {}, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// 1, 2 or 5 times a power of ten: at or above value.
export function niceMax(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

function ago(seconds) {
  if (seconds < 1) return "now";
  return seconds < 60 ? `${Math.round(seconds)} s ago` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s ago`;
}

// One chart. series: [{key, label, css, area}]; format: number -> text; top: a fixed maximum, else from the data.
export class LineChart {
  constructor(place, { title, series, format, top, least = 0, height = 168 }) {
    Object.assign(this, { place, title, series, format, top, least, height, samples: [], at: null });
    this.picture = svg("svg", { tabindex: "0", role: "img", height });
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    this.values = series.map(({ label, css }) => {
      const item = document.createElement("li");
      const mark = svg("svg", { viewBox: "0 0 16 8", "aria-hidden": "true" });
      mark.append(svg("rect", { y: 2.5, width: 16, height: 3, rx: 1.5, class: css }));
      const value = document.createElement("b");
      item.append(mark, label, value);
      this.legend.append(item);
      return value;
    });
    this.moment = document.createElement("li");
    this.legend.append(this.moment);
    place.append(this.picture, this.legend);
    new ResizeObserver(() => this.draw()).observe(place);
    this.picture.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.picture.addEventListener("pointerleave", () => this.choose(null));
    this.picture.addEventListener("blur", () => this.choose(null));
    this.picture.addEventListener("keydown", (event) => this.step(event));
  }

  show(samples) {
    this.samples = samples;
    this.draw();
  }

  choose(index) {
    this.at = index === null || !this.samples.length ? null : this.samples[Math.max(0, Math.min(index, this.samples.length - 1))].t;
    this.draw();
  }

  point(x) {
    if (!this.samples.length) return;
    const wanted = this.now - WINDOW_S * (1 - (x - MARGIN.left) / this.inner);
    const index = this.samples.findIndex((sample) => sample.t >= wanted - 0.5);
    this.choose(index < 0 ? this.samples.length - 1 : index);
  }

  step(event) {
    const last = this.samples.length - 1;
    const here = this.at === null ? last : this.samples.findIndex((sample) => sample.t === this.at);
    const next = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last, Escape: null }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.choose(next);
  }

  draw() {
    const width = this.place.clientWidth;
    if (!width) return;
    const { height, samples, picture } = this;
    this.inner = width - MARGIN.left - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    this.now = samples.length ? samples[samples.length - 1].t : 0;
    const seen = samples.filter((sample) => sample.t >= this.now - WINDOW_S);
    const highest = Math.max(this.least, ...seen.flatMap((s) => this.series.map(({ key }) => s[key] ?? 0)));
    const top = this.top ?? niceMax(highest);
    const x = (t) => MARGIN.left + this.inner * (1 - (this.now - t) / WINDOW_S);
    const y = (value) => bottom - (bottom - MARGIN.top) * (value / top);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren();
    for (const part of [0, 0.5, 1]) {
      const at = y(top * part);
      picture.append(svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at, class: part ? "rule" : "base" }));
      picture.append(svg("text", { x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, this.format(top * part)));
    }
    for (const [seconds, text] of [[WINDOW_S, `${WINDOW_S / 60} min ago`], [WINDOW_S / 2, `${WINDOW_S / 2} s`], [0, "now"]]) {
      const anchor = seconds === WINDOW_S ? "start" : seconds ? "middle" : "end";
      picture.append(svg("text", { x: x(this.now - seconds), y: height - 4, "text-anchor": anchor }, text));
    }
    for (const one of [...this.series].reverse()) this.line(one, seen, x, y, bottom);
    this.describe(seen, x, y, bottom);
  }

  line({ key, css, area }, seen, x, y, bottom) {
    let path = "", fill = "", start = null, last = null;
    const close = () => { if (last) fill += `L${last[0]} ${bottom}L${start} ${bottom}Z`; last = null; };
    for (const sample of seen) {
      const value = sample[key];
      if (value === null || value === undefined) { close(); continue; }
      const px = x(sample.t).toFixed(1), py = y(Math.min(value, this.top ?? value)).toFixed(1);
      if (!last || sample.t - last[1] > GAP_S) {
        close();
        path += `M${px} ${py}h0.01`; fill += `M${px} ${py}`; start = px;
      } else { path += `L${px} ${py}`; fill += `L${px} ${py}`; }
      last = [px, sample.t];
    }
    close();
    if (area && fill) this.picture.append(svg("path", { d: fill, class: `area ${css}` }));
    if (path) this.picture.append(svg("path", { d: path, class: `line ${css}` }));
  }

  describe(seen, x, y, bottom) {
    const chosen = this.at === null ? seen[seen.length - 1] : seen.find((sample) => sample.t >= this.at);
    const parts = [];
    this.series.forEach(({ key, label, css }, index) => {
      const value = chosen?.[key];
      const text = value === null || value === undefined ? "–" : this.format(value);
      this.values[index].textContent = text;
      parts.push(`${label} ${text}`);
      if (this.at !== null && chosen && value !== null && value !== undefined)
        this.picture.append(svg("circle", { cx: x(chosen.t), cy: y(Math.min(value, this.top ?? value)), r: 3.4, class: css }));
    });
    const when = this.at !== null && chosen ? ago(this.now - chosen.t) : "";
    this.moment.textContent = when;
    if (when) this.picture.append(svg("line", { x1: x(chosen.t), x2: x(chosen.t), y1: MARGIN.top, y2: bottom, class: "cross" }));
    this.picture.setAttribute("aria-label", `${this.title}, ${when || "now"}: ${parts.join(", ")}. Arrow keys go back in time.`);
  }
}

// Who led when: one bar of colours; red where nobody did.
export class LeaderBand {
  constructor(place, colour) {
    Object.assign(this, { place, colour, samples: [] });
    this.picture = svg("svg", { role: "img", height: 40 });
    place.append(this.picture);
    new ResizeObserver(() => this.draw()).observe(place);
  }

  show(samples) {
    this.samples = samples;
    this.draw();
  }

  draw() {
    const width = this.place.clientWidth;
    if (!width || !this.samples.length) return;
    const now = this.samples[this.samples.length - 1].t;
    const seen = this.samples.filter((sample) => sample.t >= now - WINDOW_S);
    const x = (t) => width * (1 - (now - t) / WINDOW_S);
    const runs = [];
    for (const sample of seen) {
      const run = runs[runs.length - 1];
      if (run && run.leader === sample.leader && sample.t - run.end <= GAP_S) run.end = sample.t;
      else {
        if (run && sample.t - run.end <= GAP_S) run.end = sample.t;
        runs.push({ leader: sample.leader, term: sample.term, start: sample.t, end: sample.t });
      }
    }
    this.picture.setAttribute("viewBox", `0 0 ${width} 40`);
    this.picture.replaceChildren();
    const words = [];
    for (const { leader, term, start, end } of runs) {
      const from = x(start), size = Math.max(2, x(end) - from - 1);
      const bar = svg("rect", { x: from, y: 0, width: size, height: 20, rx: 3, class: `b${leader ? this.colour(leader) : 0}` });
      bar.append(svg("title", {}, leader ? `${leader} led in term ${term}` : "no leader"));
      this.picture.append(bar);
      if (size > 34) this.picture.append(svg("text", { x: from + 7, y: 14.5, class: "on" }, size > 90 ? `${leader || "no leader"}${leader ? ` · term ${term}` : ""}` : leader || "none"));
      words.push(leader || "nobody");
    }
    this.picture.append(svg("text", { x: 0, y: 36 }, `Leader, last ${WINDOW_S / 60} minutes`));
    this.picture.append(svg("text", { x: width, y: 36, "text-anchor": "end" }, "now"));
    this.picture.setAttribute("aria-label", `Leaders in the last ${WINDOW_S / 60} minutes: ${words.join(", then ")}`);
  }
}
