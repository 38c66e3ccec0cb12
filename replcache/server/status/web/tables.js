// Numbers for people, and tables whose cells are only touched when their text changed (so selections stay).

export function count(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(size < 1e7 ? 2 : 1)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size < 1e5 ? 1 : 0)} k`;
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en").replaceAll(",", " ");
  return value.toFixed(1);
}

export function bytes(value) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1024;
  }
  return "";
}

export function latency(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  return `${value >= 99.95 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} %`;
}

export function age(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function text(id, value) {
  const node = document.getElementById(id);
  if (node.textContent !== value) node.textContent = value;
}

// rows: lists of cells; a cell is a text, or {text, css, href, pill, swatch, share, title}.
export function fill(id, rows, nothing) {
  const table = document.getElementById(id);
  const body = table.tBodies[0];
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const numeric = [...table.tHead.rows[0].cells].map((cell) => cell.classList.contains("n"));
  if (!rows.length) {
    if (body.dataset.empty !== nothing) {
      const cell = document.createElement("td");
      cell.colSpan = labels.length;
      cell.className = "nothing";
      cell.textContent = nothing;
      const row = document.createElement("tr");
      row.append(cell);
      body.replaceChildren(row);
      body.dataset.empty = nothing;
    }
    return;
  }
  if (body.dataset.empty !== undefined) {
    body.replaceChildren();
    delete body.dataset.empty;
  }
  while (body.rows.length > rows.length) body.lastElementChild.remove();
  rows.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    const css = cells.css ?? "";
    if (row.className !== css) row.className = css;
    if (cells.name !== undefined) row.dataset.name = cells.name;
    cells.forEach((wanted, at) => {
      let cell = row.cells[at];
      if (!cell) {
        cell = row.insertCell();
        cell.dataset.label = labels[at];
      }
      put(cell, typeof wanted === "object" ? wanted : { text: String(wanted) }, numeric[at]);
    });
  });
}

function put(cell, wanted, isNumeric) {
  const signature = JSON.stringify(wanted);
  if (cell.dataset.shown === signature) return;
  cell.dataset.shown = signature;
  cell.className = `${isNumeric ? "n " : ""}${wanted.css ?? ""}`.trim();
  cell.title = wanted.title ?? "";
  const parts = [];
  if (wanted.swatch) parts.push(element("span", `swatch g${wanted.swatch}`));
  if (wanted.href) {
    const link = element("a", "", wanted.text);
    link.href = wanted.href;
    parts.push(link);
  } else if (wanted.pill) parts.push(element("span", `pill ${wanted.pill}`, wanted.text));
  else parts.push(wanted.text);
  if (wanted.share !== undefined) {
    const meter = element("span", `meter${wanted.share >= 0.95 ? " full" : ""}`);
    const inner = element("i");
    inner.style.width = `${Math.min(100, wanted.share * 100)}%`;
    meter.append(inner);
    parts.push(meter);
  }
  if (wanted.after) parts.push(element("span", "soft", wanted.after));
  cell.replaceChildren(...parts);
}

export function element(name, css = "", content) {
  const node = document.createElement(name);
  if (css) node.className = css;
  if (content !== undefined) node.textContent = content;
  return node;
}
