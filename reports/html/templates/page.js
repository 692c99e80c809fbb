"use strict";
const data = JSON.parse(document.getElementById("payload").textContent);
const columns = Object.fromEntries(data.columns.map((column) => [column.name, column]));
const models = [...new Set(data.rows.map((row) => row.model))];
const PALETTE = 8, GREY = "var(--grey)";
const state = { find: "", dataset: "", regime: "", split: "", variant: "", family: "key", sort: null, picked: new Set() };

function text(column, value) {
  if (value === null || value === undefined) return "–";
  return (value * column.scale).toLocaleString("en", { minimumFractionDigits: column.digits, maximumFractionDigits: column.digits });
}
function mean(row, name) { return row.values[name] ? row.values[name][0] : null; }
// A part that is the same in the whole run is said once, in the summary, and not in every row.
const varying = ["split", "regime", "variant"].filter((name) => new Set(data.rows.map((row) => row[name])).size > 1);
function restOf(row) { return varying.map((name) => row[name]).filter(Boolean).join(" · "); }
function conditionOf(row) { return [row.dataset, restOf(row)].filter(Boolean).join(" · "); }
function withInterval(row, name) {
  const found = row.values[name], column = columns[name];
  if (!found) return "–";
  return text(column, found[0]) + (found[1] === null ? "" : ` [${text(column, found[1])}, ${text(column, found[2])}]`);
}
// The eight hues go round; after them the mark's shape and the line's dash change, so that colour never stands alone.
function lookOf(model) {
  const place = [...state.picked].indexOf(model);
  if (place < 0) return { color: GREY, dash: "", shape: "circle", picked: false };
  const turn = Math.floor(place / PALETTE) % 4;
  return { color: `var(--c${place % PALETTE})`, dash: DASHES[turn] || DASHES[place % 2 ? 1 : 0], shape: SHAPE_NAMES[place % 4], picked: true };
}
function visible(row) {
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  const hay = [row.model, row.dataset, row.split, row.regime, row.variant, row.badges.join(" "), row.problem].join(" ").toLowerCase();
  return words.every((word) => hay.includes(word)) && ["dataset", "regime", "split", "variant"].every((name) => !state[name] || row[name] === state[name]);
}
function visibleRows() { return data.rows.filter(visible); }
function byCondition(rows) {
  const groups = new Map();
  for (const row of rows) { const name = conditionOf(row); if (!groups.has(name)) groups.set(name, []); groups.get(name).push(row); }
  return groups;
}

// Leaderboard -------------------------------------------------------------------------------------------------------
const extra = {
  rarest: { name: "rarest", title: "Recall of the rarest class", head: "Rarest class", better: "high", scale: 100, digits: 1, unit: "%", about: "The share found of the class with the fewest test images, which is named under it." },
  paper: { name: "paper", title: "The paper's accuracy", head: "Paper acc.", better: "high", scale: 1, digits: 2, unit: "%", about: "Accuracy printed in the paper; see the reading under Beside the paper." },
};
function rarest(row) { return row.recalls.find((entry) => entry[0] === row.rarest); }
function valueOf(row, name) {
  if (name === "model" || name === "dataset") return row[name] + " " + conditionOf(row);
  if (name === "count") return row.cells.length;
  if (name === "rarest") { const entry = rarest(row); return entry ? entry[1] : null; }
  if (name === "paper") return row.paper.accuracy ?? null;
  return mean(row, name);
}
function shownColumns() {
  const first = data.columns.filter((column) => column.level === 1), of = (quality) => first.filter((column) => (column.family === "quality") === quality).map((column) => column.name);
  let names = [...of(true), "rarest", ...of(false)];
  if (state.family === "all") names = data.columns.map((column) => column.name);
  else if (state.family !== "key") names = data.columns.filter((column) => column.family === state.family || (state.family === "cost" && column.family === "time")).map((column) => column.name);
  if (data.rows.some((row) => row.paper.accuracy) && ["key", "all", "quality"].includes(state.family)) names = [names[0], "paper", ...names.slice(1)];
  return names.map((name) => columns[name] || extra[name]);
}
function sorted(rows) {
  const { name, up } = state.sort || {};
  if (!name) return [...rows].sort((a, b) => conditionOf(a).localeCompare(conditionOf(b)) || (mean(b, "accuracy") ?? -1) - (mean(a, "accuracy") ?? -1));
  return [...rows].sort((a, b) => {
    const one = valueOf(a, name), two = valueOf(b, name);
    if (one === null || two === null) return one === two ? 0 : one === null ? 1 : -1;
    const order = typeof one === "string" ? one.localeCompare(two) : one - two;
    return up ? order : -order;
  });
}
function sortBy(name, better) {
  const first = better === "high" ? false : true;
  state.sort = state.sort && state.sort.name === name ? { name, up: !state.sort.up } : { name, up: first };
  drawBoard();
  document.querySelector(`#board th[data-name="${name}"] button`).focus();
}
function head(name, label, about, better, left) {
  const on = state.sort && state.sort.name === name;
  return h("th", { scope: "col", class: left ? "l" : null, "data-name": name, "aria-sort": on ? (state.sort.up ? "ascending" : "descending") : null },
    h("button", { type: "button", "data-tip": about, onclick: () => sortBy(name, better) }, label));
}
function whisker(found, low, high) {
  const width = 72, at = (v) => 3 + ((v - low) / (high - low || 1)) * (width - 6);
  return s("svg", { width, height: 9, "aria-hidden": "true" },
    s("line", { x1: 3, x2: width - 3, y1: 4.5, y2: 4.5, class: "gridline" }),
    found[1] === null ? null : s("line", { x1: at(found[1]), x2: at(found[2]), y1: 4.5, y2: 4.5, stroke: "var(--accent)", "stroke-width": 2, opacity: 0.55 }),
    s("circle", { cx: at(found[0]), cy: 4.5, r: 3, fill: "var(--accent)" }));
}
function cellOf(row, column, range) {
  if (column.name === "rarest") {
    const entry = rarest(row);
    return entry ? h("td", { "data-tip": entry[2] === null ? null : `95 %: ${text(column, entry[2])} to ${text(column, entry[3])}` }, h("span", { class: "rest" }, entry[0]), " ", text(column, entry[1])) : h("td", {}, "–");
  }
  if (column.name === "paper") return h("td", {}, text(column, row.paper.accuracy));
  const found = row.values[column.name];
  if (!found) return h("td", {}, "–");
  const shown = text(column, found[0]);
  const about = found[1] === null ? null : `95 %: ${text(column, found[1])} to ${text(column, found[2])}, over ${found[3]}`;
  if (column.name !== "accuracy") return h("td", { "data-tip": about }, shown);
  return h("td", { "data-tip": about }, h("span", { class: "beside" }, whisker(found, range[0], range[1]), row.marked ? h("b", {}, shown) : h("span", {}, shown)));
}
function pickButton(row) {
  const look = lookOf(row.model);
  return h("button", { type: "button", class: "pick", "aria-pressed": String(look.picked), "data-tip": look.picked ? "Coloured in the pictures; click to grey it" : "Click to colour it in the pictures", onclick: () => pick(row.model) },
    h("span", { class: "dot", style: look.picked ? `background:${look.color};border-color:${look.color}` : null }), row.model);
}
function drawBoard() {
  const kept = visibleRows(), conditions = new Set(kept.map(conditionOf));
  const references = data.references.filter((row) => conditions.has(conditionOf(row)));
  const rows = sorted([...kept, ...references]), shown = shownColumns();
  const bounds = rows.flatMap((row) => (row.values.accuracy || []).slice(0, 3)).filter((v) => v !== null);
  const range = bounds.length ? [Math.min(...bounds), Math.max(...bounds)] : [0, 1];
  const headRow = h("tr", {}, head("model", "Model", "Registered name", "", true), head("dataset", "Condition", "Dataset, split, regime, and the protocol where a run has several", "", true),
    head("count", "Cells", "Seeds and folds behind the row", "high"), shown.map((column) => head(column.name, column.head, `${column.title}: ${column.about}${column.unit ? ` In ${column.unit}.` : ""}`, column.better)));
  const body = rows.map((row) => h("tr", { class: references.includes(row) ? "reference" : null },
    h("td", { class: "l" }, references.includes(row) ? h("i", { "data-tip": "Every test image is given the most frequent class of the training images" }, row.model) : pickButton(row)),
    h("td", { class: "l" }, row.dataset, restOf(row) ? " " : null, restOf(row) ? h("span", { class: "rest" }, restOf(row)) : null, row.badges.map((badge) => h("span", { class: "badge", "data-tip": badge }, badge.split(":")[0]))),
    h("td", {}, row.count),
    Object.keys(row.values).length ? shown.map((column) => cellOf(row, column, range)) : h("td", { class: "problem", colspan: shown.length }, row.problem)));
  const partial = rows.filter((row) => row.problem && Object.keys(row.values).length);
  put("board", h("table", {}, h("thead", {}, headRow), h("tbody", {}, body)));
  document.getElementById("count").textContent = `${kept.length} of ${data.rows.length} rows` + (partial.length ? `; ${partial.length} with cells missing` : "");
}
function pick(model) {
  if (state.picked.has(model)) state.picked.delete(model); else state.picked.add(model);
  drawBoard(); drawPictures();
  const button = [...document.querySelectorAll("#board .pick")].find((each) => each.textContent === model);
  if (button) button.focus();
}

// Pictures ----------------------------------------------------------------------------------------------------------
function padded(values, share, limit) {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) * 0.1 || 0.1) * share;
  return limit ? [Math.max(limit[0], low - room), Math.min(limit[1], high + room)] : [low - room, high + room];
}
function drawPareto() {
  const yc = columns[document.getElementById("pareto-y").value], xc = columns[document.getElementById("pareto-x").value];
  if (!yc || !xc) return put("pareto-plots", h("p", { class: "about" }, "No metrics to draw."));
  const figures = [...byCondition(visibleRows())].map(([name, rows]) => {
    const known = rows.filter((row) => mean(row, yc.name) !== null && mean(row, xc.name) > 0);
    if (known.length < 2) return null;
    return fitted(frame(name, `${known.length} models`), 300, (width, height) => paretoChart(known, xc, yc, width, height));
  }).filter(Boolean);
  put("pareto-plots", figures.length ? figures : h("p", { class: "about" }, "Two models with both values are needed."));
}
function paretoChart(rows, xc, yc, width, height) {
  const at = (row) => [mean(row, xc.name) * xc.scale, mean(row, yc.name) * yc.scale];
  const xs = rows.map((row) => at(row)[0]), ys = rows.flatMap((row) => row.values[yc.name].slice(0, 3).filter((v) => v !== null).map((v) => v * yc.scale));
  const paper = rows.map((row) => row.paper[yc.name]).filter((v) => v !== undefined);
  const [ylow, yhigh] = padded([...ys, ...paper], 0.08, yc.scale === 100 ? [0, 100.5] : null);
  const sign = yc.better === "low" ? -1 : 1;
  const front = [...rows].sort((a, b) => at(a)[0] - at(b)[0] || sign * (at(b)[1] - at(a)[1]))
    .reduce((kept, row) => (kept.length && sign * (at(row)[1] - at(kept[kept.length - 1])[1]) <= 0 ? kept : [...kept, row]), []);
  const xmin = Math.min(...xs) / 1.25, xmax = Math.max(...xs) * 1.35;
  const points = [...rows].sort((a, b) => state.picked.has(a.model) - state.picked.has(b.model)).map((row) => {
    const look = lookOf(row.model), found = row.values[yc.name];
    return { x: at(row)[0], y: at(row)[1], low: found[1] === null ? null : found[1] * yc.scale, high: found[2] === null ? null : found[2] * yc.scale, color: look.color, shape: look.shape, r: look.picked ? 5.5 : 4,
      name: look.picked || front.includes(row) ? row.model : null, tip: `${row.model}\n${yc.title} ${withInterval(row, yc.name)}\n${xc.title} ${text(xc, mean(row, xc.name))} ${xc.unit}` };
  });
  const best = paper.length ? Math.max(...paper) : null;
  return chart({ width, height, label: `${yc.title} against ${xc.title}`, x: { min: xmin, max: xmax, log: true, label: `${xc.title}, ${xc.unit} (log)` }, y: { min: ylow, max: yhigh, label: yc.unit ? `${yc.title}, ${yc.unit}` : yc.title },
    lines: [{ points: front.map(at), color: "var(--faint)", width: 1, dash: "1 3" }], points, refs: best === null ? [] : [{ x1: xmin, x2: xmax, y1: best, y2: best, label: `paper ${best}` }] });
}
function historyOf(row, name) {
  const found = row.cells.map((id) => data.cells[id].history).filter((history) => history && history[name]);
  if (!found.length) return [];
  const longest = found.reduce((a, b) => (a.x.length >= b.x.length ? a : b)).x;
  return longest.map((x, index) => {
    const values = found.map((history) => history[name][index]).filter((v) => v !== null && v !== undefined);
    return [x, values.length ? values.reduce((a, b) => a + b, 0) / values.length : null];
  });
}
const HISTORY = { val_accuracy: "Validation accuracy", val_loss: "Validation loss", train_accuracy: "Training accuracy", train_loss: "Training loss", learning_rate: "Learning rate" };
function lineChart(lines, label, width, height, percent, xLabel) {
  const ys = lines.flatMap((line) => line.points.map((p) => p[1])).filter((v) => v !== null && v !== undefined), xs = lines.flatMap((line) => line.points.map((p) => p[0]));
  if (!ys.length) return h("p", { class: "about" }, "No history.");
  const [low, high] = padded(ys, 0.06, percent ? [0, 1] : null);
  const single = Math.max(...xs) === Math.min(...xs);
  return chart({ width, height, label, x: { min: Math.min(...xs) - (single ? 1 : 0), max: Math.max(...xs) + (single ? 1 : 0), label: xLabel, format: (v) => (Number.isInteger(v) ? String(v) : "") },
    y: { min: low, max: high, format: percent ? (v) => +(100 * v).toFixed(1) + "" : short }, lines, points: lines.filter((line) => line.points.length === 1).map((line) => ({ x: line.points[0][0], y: line.points[0][1], color: line.color, r: 3.5 })) });
}
function drawLearning() {
  const name = document.getElementById("learning-y").value;
  const figures = [...byCondition(visibleRows())].map(([condition, rows]) => {
    const lines = rows.map((row) => ({ row, look: lookOf(row.model), points: historyOf(row, name) })).filter((entry) => entry.points.length).sort((a, b) => a.look.picked - b.look.picked)
      .map(({ row, look, points }) => ({ points, color: look.color, dash: look.dash, width: look.picked ? 2 : 1, opacity: look.picked ? 1 : 0.7, tip: `${row.model}: last ${text({ scale: 1, digits: 4 }, points[points.length - 1][1])}` }));
    return lines.length ? fitted(frame(condition), 220, (width, height) => lineChart(lines, `${HISTORY[name]} of ${condition}`, width, height, name.endsWith("accuracy"), "epoch or round")) : null;
  }).filter(Boolean);
  put("learning-plots", figures.length ? figures : h("p", { class: "about" }, "No history to draw."));
}
function pickedLegend() { return legend([...state.picked].map((model) => ({ name: model, ...lookOf(model) }))); }
function drawClasses() {
  const groups = [...byCondition(visibleRows().filter((row) => row.recalls.length))];
  put("class-tables", groups.map(([condition, rows], index) => {
    const classes = rows[0].recalls.map((entry) => entry[0]), rare = rows.map((row) => row.rarest).find(Boolean);
    const headRow = h("tr", {}, h("th", { class: "l", scope: "col" }, "Model"), classes.map((name) => h("th", { scope: "col" }, name, name === rare ? h("span", { class: "badge plain" }, "rarest") : null)));
    const body = [...rows].sort((a, b) => (mean(b, "balanced_accuracy") ?? -1) - (mean(a, "balanced_accuracy") ?? -1)).map((row) => h("tr", {}, h("td", { class: "l" }, row.model), row.recalls.map((entry) => {
      const shade = entry[1] === null ? 0 : Math.max(0, (entry[1] - 0.4) / 0.6) * 0.38;
      return h("td", { style: `background:rgb(var(--shade) / ${shade.toFixed(2)})`, "data-tip": entry[2] === null ? null : `${row.model}, ${entry[0]}\n95 %: ${text(extra.rarest, entry[2])} to ${text(extra.rarest, entry[3])}` }, text(extra.rarest, entry[1]));
    })));
    return h("details", { open: index < 3 }, h("summary", {}, condition), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, headRow), h("tbody", {}, body))));
  }));
}

// One cell ----------------------------------------------------------------------------------------------------------
function option(value, label) { return h("option", { value }, label); }
function fillCellRows() {
  const groups = [...byCondition(data.rows)].map(([condition, rows]) => h("optgroup", { label: condition }, rows.map((row) => option(data.rows.indexOf(row), row.model))));
  put("cell-row", groups);
}
function fillSeeds() {
  const row = data.rows[document.getElementById("cell-row").value];
  if (row) put("cell-seed", row.cells.map((id) => option(id, `seed ${data.cells[id].seed}${data.cells[id].split.includes(":") ? ", fold " + data.cells[id].split.split(":")[1] : ""} (${data.cells[id].status})`)));
}
function matrix(cell) {
  const names = cell.classes, totals = cell.confusion.map((line) => line.reduce((a, b) => a + b, 0));
  const body = cell.confusion.map((line, i) => h("tr", {}, h("th", { scope: "row" }, names[i]), line.map((count, j) => {
    const share = totals[i] ? count / totals[i] : 0;
    return h("td", { style: `background:rgb(var(--shade) / ${(share * 0.6).toFixed(2)})`, "data-tip": `${count} of ${totals[i]} ${names[i]} taken for ${names[j]} (${(100 * share).toFixed(1)} %)` }, i === j ? h("b", {}, count) : count || h("span", { style: "color:var(--faint)" }, 0));
  })));
  return h("div", { class: "scroll", style: "border:0" }, h("table", { class: "matrix" }, h("thead", {}, h("tr", {}, h("th", {}, "true ↓ · predicted →"), names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, body)));
}
function classColor(index) { return { color: `var(--c${index % PALETTE})`, dash: DASHES[Math.floor(index / PALETTE) % 4] }; }
function curveFigure(cell, kind, title, xLabel, yLabel, refs) {
  const lines = cell[kind].map((curve, index) => curve && { points: curve[0].map((x, i) => [x / 1000, curve[1][i] / 1000]), ...classColor(index), tip: cell.classes[index] }).filter(Boolean);
  const figure = fitted(frame(title), 250, (width, height) => chart({ width, height, label: title, x: { min: 0, max: 1, label: xLabel }, y: { min: 0, max: 1, label: yLabel }, lines, refs }));
  figure.append(legend(cell.classes.map((name, index) => ({ name, ...classColor(index) }))));
  return figure;
}
function reliabilityFigure(cell) {
  const most = Math.max(...cell.bins.map((bin) => bin[0]), 1), width = 1 / cell.bins.length;
  const points = cell.bins.filter((bin) => bin[0]).map((bin) => ({ x: bin[1], y: bin[2], r: 2.5 + 5 * Math.sqrt(bin[0] / most), color: "var(--accent)", tip: `${bin[0]} images\nconfidence ${(100 * bin[1]).toFixed(1)} %\naccuracy ${(100 * bin[2]).toFixed(1)} %` }));
  const bars = cell.bins.map((bin, index) => ({ x1: index * width, x2: (index + 1) * width, y: 0.18 * (bin[0] / most), color: "var(--grey)", opacity: 0.6 }));
  return fitted(frame("Reliability", "mark's size and bars: images"), 250, (w, hh) => chart({ width: w, height: hh, label: "Reliability", x: { min: 0, max: 1, label: "confidence" }, y: { min: 0, max: 1, label: "accuracy" }, bars, points, refs: [{ x1: 0, y1: 0, x2: 1, y2: 1 }] }));
}
function drawCell() {
  const cell = data.cells[document.getElementById("cell-seed").value];
  if (!cell) return;
  const row = data.rows[cell.row];
  const facts = cell.status === "done" ? `${cell.test} test images of ${cell.groups} groups; folder cells/${cell.folder}` : "";
  put("cell-about", h("p", { class: "about" }, facts), cell.status === "done" ? null : h("div", { class: "note" }, h("b", {}, cell.status), ": ", cell.problem),
    row.badges.map((badge) => h("span", { class: "badge" }, badge)), cell.notes && cell.notes.length ? h("ul", { class: "notes" }, cell.notes.map((note) => h("li", {}, note))) : null);
  const figures = [], history = cell.history || {};
  if (history.x) {
    for (const [title, pair] of [["Loss", ["train_loss", "val_loss"]], ["Accuracy", ["train_accuracy", "val_accuracy"]]]) {
      const lines = pair.map((name, index) => history[name] && { points: history.x.map((x, i) => [x, history[name][i]]), color: `var(--c${index})`, dash: index ? "" : "5 3", tip: HISTORY[name] }).filter(Boolean);
      if (lines.length) { const figure = fitted(frame(title), 230, (w, hh) => lineChart(lines, title, w, hh, title === "Accuracy", "epoch or round")); figure.append(legend([{ name: "training", color: "var(--c0)", dash: "5 3" }, { name: "validation", color: "var(--c1)" }])); figures.push(figure); }
    }
  }
  if (cell.confusion) figures.push(frame("Confusion", "images, shaded by row", matrix(cell)), curveFigure(cell, "roc", "ROC, one class against the rest", "1 − specificity", "recall", [{ x1: 0, y1: 0, x2: 1, y2: 1 }]), curveFigure(cell, "pr", "Precision and recall", "recall", "precision"), reliabilityFigure(cell));
  put("cell-plots", figures.length ? figures : h("p", { class: "about" }, "No predictions or history to draw."));
}

// Ablation, across datasets, federated --------------------------------------------------------------------------------
function drawAblation() {
  const select = document.getElementById("ablation-y");
  if (!select) return;
  put("ablation-plots", data.ablations.map((study) => {
    const effects = study.effects.filter((effect) => effect.metric === select.value), places = [...new Set(effects.map((effect) => effect.dataset))];
    return h("div", {}, h("h3", {}, `${study.name}: variant minus full model, percentage points`), h("div", { class: "facets wide" }, places.map((dataset) => {
      const mine = effects.filter((effect) => effect.dataset === dataset);
      return fitted(frame(dataset, `${mine[0].images.toLocaleString("en")} test images`), 46 + 30 * mine.length, (width, height) => forest(mine, effects, width, height));
    })), study.problems.length ? h("ul", { class: "notes" }, study.problems.map((problem) => h("li", {}, problem))) : null);
  }));
}
function forest(effects, all, width, height) {
  const wide = width > 460, left = wide ? 208 : 62, right = wide ? 92 : 12;
  const ends = all.flatMap((effect) => [effect.low, effect.high, effect.value, 0]).filter((v) => v !== null);
  const [low, high] = padded(ends, 0.06), scale = scaleOf({ min: low, max: high }, left, width - right), band = Math.max(...effects.map((effect) => effect.smallest || 0));
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Forest plot" });
  const bandLow = scale(Math.max(low, -band)), bandHigh = scale(Math.min(high, band));
  if (effects[0].metric === "accuracy") svg.append(s("rect", { x: bandLow, width: Math.max(0, bandHigh - bandLow), y: 4, height: height - 30, fill: "var(--grid)", "data-tip": `Smaller true differences than ${(100 * band).toFixed(1)} points would mostly go unseen here` }));
  for (const t of niceTicks(low * 100, high * 100, 5)) { svg.append(s("line", { class: "gridline", x1: scale(t / 100), x2: scale(t / 100), y1: 4, y2: height - 26 }), s("text", { x: scale(t / 100), y: height - 10, "text-anchor": "middle" }, (t > 0 ? "+" : "") + short2(t))); }
  svg.append(s("line", { x1: scale(0), x2: scale(0), y1: 4, y2: height - 26, stroke: "var(--soft)" }));
  effects.forEach((effect, index) => {
    const y = 20 + 30 * index, sure = effect.adjusted !== null && effect.adjusted < 0.05, color = sure ? (effect.value < 0 ? "var(--c1)" : "var(--c0)") : "var(--soft)";
    const tipText = `${effect.variant} (${effect.paper_name}): ${effect.change}\n${signed(effect.value)} [${signed(effect.low)}, ${signed(effect.high)}], p = ${effect.p_text}`;
    const group = s("g", { tabindex: 0, role: "img", "aria-label": tipText, "data-tip": tipText }, s("line", { x1: scale(effect.low ?? effect.value), x2: scale(effect.high ?? effect.value), y1: y, y2: y, stroke: color, "stroke-width": 2 }));
    const mark = SHAPES[sure ? "square" : "circle"](scale(effect.value), y, 4.5); mark.setAttribute("fill", sure ? color : "var(--panel)"); mark.setAttribute("stroke", color); mark.setAttribute("stroke-width", 1.6); group.append(mark);
    svg.append(s("text", { class: "name", x: 2, y: y + (wide ? 0 : 4) }, wide ? effect.change : effect.paper_name), group);
    if (wide) svg.append(s("text", { x: 2, y: y + 12 }, effect.paper_name), s("text", { x: width - 2, y: y + 1, "text-anchor": "end" }, `${signed(effect.value)}`), s("text", { x: width - 2, y: y + 13, "text-anchor": "end" }, `p ${effect.p_text.startsWith("<") ? effect.p_text : "= " + effect.p_text}`));
  });
  return svg;
}
function short2(v) { return String(+v.toFixed(2)).replace("-", "−"); }
function signed(v) { return v === null ? "–" : ((v > 0 ? "+" : "") + (100 * v).toFixed(1)).replace("-", "−"); }
function drawAcross() {
  if (!document.getElementById("across-plots")) return;
  put("across-plots", data.across.map((entry) => fitted(frame(entry.name, `${entry.datasets} datasets, Friedman p = ${entry.p_text}, critical difference ${entry.critical_difference.toFixed(2)}`), 62 + 17 * Math.ceil(entry.models.length / 2) + 8 * entry.cliques.length, (width, height) => criticalDifference(entry, width, height))));
}
function criticalDifference(entry, width, height) {
  const count = entry.models.length, left = Math.min(210, width * 0.28), scale = scaleOf({ min: 1, max: Math.max(count, 2) }, left, width - left), top = 26;
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Critical-difference diagram" }, s("line", { x1: scale(1), x2: scale(count), y1: top, y2: top, stroke: "var(--soft)" }));
  for (let rank = 1; rank <= count; rank++) svg.append(s("line", { x1: scale(rank), x2: scale(rank), y1: top - 4, y2: top, stroke: "var(--soft)" }), s("text", { x: scale(rank), y: top - 8, "text-anchor": "middle" }, rank));
  const order = entry.models.map((model, index) => [entry.ranks[index], model]).sort((a, b) => a[0] - b[0]), half = Math.ceil(count / 2), base = top + 14 + 8 * entry.cliques.length;
  order.forEach(([rank, model], index) => {
    const onLeft = index < half, y = base + 17 * (onLeft ? index : count - 1 - index), end = onLeft ? left - 8 : width - left + 8;
    svg.append(s("polyline", { points: `${scale(rank)},${top} ${scale(rank)},${y} ${end},${y}`, fill: "none", stroke: "var(--faint)" }), s("text", { class: "name", x: onLeft ? end - 4 : end + 4, y: y + 4, "text-anchor": onLeft ? "end" : "start" }, `${model} ${rank.toFixed(2)}`));
  });
  entry.cliques.forEach((clique, index) => {
    const ranks = clique.map((model) => entry.ranks[entry.models.indexOf(model)]), y = top + 9 + 8 * index;
    svg.append(s("line", { x1: scale(Math.min(...ranks)) - 3, x2: scale(Math.max(...ranks)) + 3, y1: y, y2: y, stroke: "var(--accent)", "stroke-width": 4, "stroke-linecap": "round", "data-tip": "no significant difference: " + clique.join(", ") }));
  });
  return svg;
}
function drawFederated() {
  if (!document.getElementById("federated-plots")) return;
  const groups = new Map();
  for (const row of data.rows) if (row.regime !== "centralized" && row.regime !== "twin" && row.cells.some((id) => data.cells[id].history && data.cells[id].history.x)) { const name = `${row.model} · ${row.dataset} · ${row.split}`; if (!groups.has(name)) groups.set(name, []); groups.get(name).push(row); }
  put("federated-plots", [...groups].slice(0, 60).map(([name, rows]) => {
    const twins = [...new Set(rows.map((row) => row.twin).filter((number) => number !== undefined))].map((number) => data.rows[number]);
    const lines = rows.map((row, index) => ({ name: [row.regime, row.variant].filter(Boolean).join(" "), points: historyOf(row, "val_accuracy"), ...classColor(index) }));
    for (const twin of twins) if (historyOf(twin, "val_accuracy").length) lines.push({ name: [twin.regime, twin.variant].filter(Boolean).join(" "), points: historyOf(twin, "val_accuracy"), color: "var(--soft)", dash: "4 3" });
    const bands = rows.map((row, index) => { const worst = historyOf(row, "val_worst_client_accuracy"), all = historyOf(row, "val_accuracy"); return worst.length ? { color: classColor(index).color, points: all.map((p, i) => [p[0], worst[i][1], p[1]]).filter((p) => p[1] !== null && p[2] !== null) } : null; }).filter(Boolean);
    const figure = fitted(frame(name, "validation images; band down to the worst client's"), 230, (width, height) => {
      const ys = [...lines.flatMap((line) => line.points.map((p) => p[1])), ...bands.flatMap((band) => band.points.map((p) => p[1]))].filter((v) => v !== null), xs = lines.flatMap((line) => line.points.map((p) => p[0])), [low, high] = padded(ys, 0.06, [0, 1]);
      return chart({ width, height, label: name, x: { min: Math.min(...xs), max: Math.max(...xs, Math.min(...xs) + 1), label: "round or epoch" }, y: { min: low, max: high, format: (v) => +(100 * v).toFixed(1) + "" }, lines, bands });
    });
    figure.append(legend(lines));
    const boxes = rows.map((row, index) => clientBox(row, classColor(index).color)).filter(Boolean);
    if (boxes.length) figure.append(h("div", {}, h("small", { class: "under" }, "Test accuracy by client or site"), boxes));
    return figure;
  }));
}
function clientBox(row, color) {
  const values = row.cells.flatMap((id) => Object.values(data.cells[id].sites || {}).map((site) => site[1])).sort((a, b) => a - b);
  if (values.length < 2) return null;
  const at = (share) => { const place = share * (values.length - 1), low = Math.floor(place); return values[low] + (place - low) * ((values[low + 1] ?? values[low]) - values[low]); };
  return fitted(h("div", { "data-tip": `${row.regime}: worst ${(100 * values[0]).toFixed(1)}, median ${(100 * at(0.5)).toFixed(1)}, best ${(100 * at(1)).toFixed(1)} %` }), 22, (width, height) => {
    const [low, high] = padded(values, 0.1, [0, 1]), x = scaleOf({ min: low, max: high }, 40, width - 44);
    return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height }, s("line", { x1: x(at(0)), x2: x(at(1)), y1: 11, y2: 11, stroke: color }), s("rect", { x: x(at(0.25)), width: Math.max(1, x(at(0.75)) - x(at(0.25))), y: 5, height: 12, fill: "var(--panel)", stroke: color }), s("line", { x1: x(at(0.5)), x2: x(at(0.5)), y1: 5, y2: 17, stroke: color, "stroke-width": 2 }), s("text", { x: 2, y: 15 }, (100 * low).toFixed(0)), s("text", { x: width - 2, y: 15, "text-anchor": "end" }, (100 * high).toFixed(0) + " %"));
  });
}

// Wiring ------------------------------------------------------------------------------------------------------------
function redraw() { for (const draw of redraws) draw(); }
function drawPictures() { redraws = []; drawPareto(); drawLearning(); drawClasses(); drawCell(); drawAblation(); drawAcross(); drawFederated(); drawPartitions(); drawSweeps(); for (const id of ["pareto-plots", "learning-plots"]) document.getElementById(id).append(pickedLegend()); redraw(); }
function fillFilter(id, name, all) {
  const values = [...new Set(data.rows.map((row) => row[name]))].sort();
  put(id, option("", all), values.filter(Boolean).map((value) => option(value, value)));
  document.getElementById(id).addEventListener("change", (event) => { state[name] = event.target.value; drawBoard(); drawPictures(); });
  return values;
}
function fillSelect(id, entries, change) {
  const select = document.getElementById(id);
  if (!select) return;
  put(id, entries.map(([value, label]) => option(value, label)));
  select.addEventListener("change", change);
}
function start() {
  fillFilter("by-dataset", "dataset", "all"); fillFilter("by-regime", "regime", "all"); fillFilter("by-split", "split", "all");
  if (fillFilter("by-variant", "variant", "all").filter(Boolean).length === 0) document.getElementById("variant-label").hidden = true;
  document.getElementById("find").addEventListener("input", (event) => { state.find = event.target.value; drawBoard(); drawPictures(); });
  const families = new Set(data.columns.map((column) => column.family));
  fillSelect("family", [["key", "the key ones"], ["quality", "quality"], ["calibration", "calibration"], ["cost", "cost and time"], ["federated", "federated"], ["analyses", "analyses"], ["all", "all"]].filter(([name]) => ["key", "all"].includes(name) || families.has(name)), (event) => { state.family = event.target.value; drawBoard(); });
  const of = (...names) => data.columns.filter((column) => names.includes(column.family)).map((column) => [column.name, column.title]);
  const redrawn = (draw) => () => { redraws = []; drawPictures(); };
  fillSelect("pareto-y", of("quality", "calibration"), redrawn()); fillSelect("pareto-x", of("cost", "time").filter(([name]) => name !== "train_images_per_s"), redrawn());
  if (columns.macs_m) document.getElementById("pareto-x").value = "macs_m";
  fillSelect("learning-y", Object.entries(HISTORY), redrawn());
  if (data.ablations.length) fillSelect("ablation-y", [["accuracy", "Accuracy"], ["balanced_accuracy", "Balanced accuracy"], ["roc_auc", "ROC-AUC"]], redrawn());
  const best = new Map();
  for (const row of data.rows) if (mean(row, "accuracy") !== null) best.set(row.model, Math.max(best.get(row.model) ?? 0, mean(row, "accuracy")));
  const order = [...best].sort((a, b) => b[1] - a[1]).map(([model]) => model);
  state.picked = new Set([...new Set([...(best.has("deepmedix") ? ["deepmedix"] : []), ...order])].slice(0, 6));
  fillCellRows();
  const first = data.rows.findIndex((row) => row.model === (best.has("deepmedix") ? "deepmedix" : order[0]));
  if (first >= 0) document.getElementById("cell-row").value = String(first);
  fillSeeds();
  document.getElementById("cell-row").addEventListener("change", () => { fillSeeds(); drawPictures(); });
  document.getElementById("cell-seed").addEventListener("change", drawPictures);
  drawBoard(); drawPictures();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
  addEventListener("beforeprint", redraw);
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  const links = [...document.querySelectorAll("nav.jump a")];
  const watcher = new IntersectionObserver((entries) => { for (const entry of entries) if (entry.isIntersecting) for (const link of links) link.classList.toggle("here", link.getAttribute("href") === "#" + entry.target.id); }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
}
start();
