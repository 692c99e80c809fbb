"use strict";
// Sweeps: a point or a line a trial; the trials that no other beats are coloured. -------------------------------------
function aboutTrial(trial) {
  const params = Object.entries(trial.params).map(([name, value]) => `${name} ${typeof value === "number" ? short(value) : value}`);
  return `trial ${trial.number}: ${trial.values.map(short).join(", ")}\n${params.join(", ")}`;
}
function trialLook(sweep, trial) {
  return sweep.front.includes(trial.number) ? { color: "var(--accent)", r: 5 } : { color: "var(--grey)", r: 3.5 };
}
function trialPoints(sweep, trials, x, y) {
  const order = [...trials].sort((a, b) => sweep.front.includes(a.number) - sweep.front.includes(b.number));
  return order.map((trial) => ({ x: x(trial), y: y(trial), tip: aboutTrial(trial), ...trialLook(sweep, trial) }));
}
function numberAxis(values, label) { const [min, max] = padded(values, 0.05); return { min, max, label }; }
function namePlace(domain, value) { return domain.choices.findIndex((choice) => JSON.stringify(choice) === JSON.stringify(value)); }
// The axis of a searched field and where a trial stands on it: names are numbered from 0.
function fieldAxis(domain, field) {
  if (domain.choices)
    return { min: -0.5, max: domain.choices.length - 0.5, label: field, ticks: domain.choices.map((_, place) => place), format: (place) => String(domain.choices[place]), at: (trial) => namePlace(domain, trial.params[field]) };
  const edge = domain.log ? (domain.high / domain.low) ** 0.03 : 0.03 * (domain.high - domain.low);
  const [min, max] = domain.log ? [domain.low / edge, domain.high * edge] : [domain.low - edge, domain.high + edge];
  return { min, max, log: domain.log, label: domain.log ? `${field} (log)` : field, at: (trial) => trial.params[field] };
}
function historyChart(sweep, place, width, height) {
  const { column, direction } = sweep.objectives[place], better = direction === "max" ? Math.max : Math.min, steps = [];
  let best = null;
  for (const trial of sweep.trials) {
    const value = trial.values[place];
    if (best !== null) steps.push([trial.number, best]);
    best = best === null ? value : better(best, value);
    steps.push([trial.number, best]);
  }
  const x = { ...numberAxis(sweep.trials.map((trial) => trial.number), "trial"), format: (v) => (Number.isInteger(v) ? String(v) : "") };
  return chart({ width, height, left: 62, label: `History of ${column}`, x, y: numberAxis(sweep.trials.map((trial) => trial.values[place]), column),
    lines: [{ points: steps, color: "var(--accent)", tip: "the best so far" }], points: trialPoints(sweep, sweep.trials, (trial) => trial.number, (trial) => trial.values[place]) });
}
function sliceChart(sweep, field, place, width, height) {
  const x = fieldAxis(sweep.space[field], field), column = sweep.objectives[place].column;
  return chart({ width, height, left: 62, label: `${column} by ${field}`, x, y: numberAxis(sweep.trials.map((trial) => trial.values[place]), column),
    points: trialPoints(sweep, sweep.trials.filter((trial) => field in trial.params), x.at, (trial) => trial.values[place]) });
}
function frontChart(sweep, width, height) {
  const [first, second] = sweep.objectives.map((objective) => objective.column), at = (trial) => [trial.values[1], trial.values[0]];
  const joined = sweep.trials.filter((trial) => sweep.front.includes(trial.number)).map(at).sort((a, b) => a[0] - b[0]);
  return chart({ width, height, left: 62, label: `${first} against ${second}`, x: numberAxis(sweep.trials.map((trial) => trial.values[1]), second), y: numberAxis(sweep.trials.map((trial) => trial.values[0]), first),
    lines: [{ points: joined, color: "var(--accent)" }], points: trialPoints(sweep, sweep.trials, (trial) => at(trial)[0], (trial) => at(trial)[1]) });
}
// Rows of named, stacked bars: rows are [name, [[length, colour, tip], ...], text at the end].
function barRows(label, rows, most, left, width) {
  const step = 20, room = width - left - 44, height = step * rows.length + 4;
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  rows.forEach(([name, parts, end], index) => {
    let start = left;
    svg.append(s("text", { class: "name", x: left - 6, y: step * index + 14, "text-anchor": "end" }, name));
    for (const [length, fill, tip] of parts) {
      const wide = (length / (most || 1)) * room;
      svg.append(s("rect", { x: start, y: step * index + 3, width: wide, height: 14, fill, "data-tip": tip }));
      start += wide;
    }
    svg.append(s("text", { x: start + 5, y: step * index + 14 }, end));
  });
  return svg;
}
function importanceChart(shares, width) {
  const rows = Object.entries(shares).sort((a, b) => b[1] - a[1]).map(([name, share]) => [name, [[share, "var(--accent)", `${name}: ${(100 * share).toFixed(1)} %`]], `${(100 * share).toFixed(0)} %`]);
  return barRows("Importances", rows, 1, Math.min(170, width / 2), width);
}
function parallelChart(sweep, width, height) {
  const fields = Object.keys(sweep.space), objective = sweep.objectives[0].column, top = 14, bottom = 30;
  const axes = [...fields.map((field) => fieldAxis(sweep.space[field], field)), { ...numberAxis(sweep.trials.map((trial) => trial.values[0]), objective), at: (trial) => trial.values[0] }];
  const whole = Math.max(width, 105 * axes.length), across = (index) => 14 + (index / axes.length) * (whole - 14), scales = axes.map((axis) => scaleOf(axis, height - bottom, top));
  const svg = s("svg", { viewBox: `0 0 ${whole} ${height}`, width: whole, height, role: "group", "aria-label": "Parallel coordinates", style: "max-width:none" });
  const known = sweep.trials.filter((trial) => fields.every((field) => field in trial.params)), isBest = (trial) => sweep.front.includes(trial.number);
  for (const trial of known.sort((a, b) => isBest(a) - isBest(b))) {
    const points = axes.map((axis, index) => `${across(index).toFixed(1)},${scales[index](axis.at(trial)).toFixed(1)}`).join(" ");
    svg.append(s("polyline", { points, fill: "none", stroke: trialLook(sweep, trial).color, "stroke-width": isBest(trial) ? 2 : 1 }), s("polyline", { points, fill: "none", stroke: "transparent", "stroke-width": 8, "data-tip": aboutTrial(trial) }));
  }
  axes.forEach((axis, index) => {
    const x = across(index), ticks = axis.ticks ?? (axis.log ? logTicks(axis.min, axis.max) : niceTicks(axis.min, axis.max, 4));
    svg.append(s("line", { class: "axis", x1: x, x2: x, y1: top, y2: height - bottom }), s("text", { class: "name", x, y: height - 10, "text-anchor": index ? "middle" : "start" }, axis.label));
    for (const tick of ticks) svg.append(s("text", { x: x + 4, y: scales[index](tick) + 4 }, (axis.format || short)(tick)));
  });
  return svg;
}
function sweepFigures(sweep) {
  const found = [], fields = Object.keys(sweep.space);
  sweep.objectives.forEach(({ column }, place) => {
    found.push(fitted(frame(`History of ${column}`, "each trial, and the best so far"), 240, (width, height) => historyChart(sweep, place, width, height)));
    const shares = sweep.importances[place] || {};
    if (Object.keys(shares).length) found.push(fitted(frame(`What the spread of ${column} depends on`, "fANOVA"), 0, (width) => importanceChart(shares, width)));
    for (const field of fields) found.push(fitted(frame(`${field} against ${column}`), 240, (width, height) => sliceChart(sweep, field, place, width, height)));
  });
  if (sweep.objectives.length > 1) found.push(fitted(frame("The front", "trials that none beats in everything"), 240, (width, height) => frontChart(sweep, width, height)));
  return found;
}
function wideSweepFigure(sweep) {
  const figure = frame("Parallel coordinates", "a line a trial, the best coloured");
  figure.append(fitted(h("div", { class: "scroll", style: "border:0" }), 240, (width, height) => parallelChart(sweep, width, height)));
  return figure;
}
function drawSweeps() {
  data.sweeps.forEach((sweep, number) => {
    if (!sweep.trials.length) return;
    put(`sweep-${number}`, sweepFigures(sweep));
    if (Object.keys(sweep.space).length > 1) put(`sweep-wide-${number}`, wideSweepFigure(sweep));
  });
}

// How a federation's images were dealt --------------------------------------------------------------------------------
function drawPartitions() {
  if (!data.partitions.length) return;
  put("partition-plots", data.partitions.map((dealt) => {
    const sums = dealt.rows.map(([, counts]) => counts.reduce((a, b) => a + b, 0));
    const rows = dealt.rows.map(([client, counts], index) => [client, counts.map((count, place) => [count, classColor(place).color, `${client}, ${dealt.classes[place]}: ${count}`]), sums[index]]);
    const figure = fitted(frame(dealt.caption), 0, (width) => barRows(dealt.caption, rows, Math.max(...sums), Math.min(110, width / 3), width));
    figure.append(legend(dealt.classes.map((name, place) => ({ name, color: classColor(place).color }))));
    return figure;
  }));
}
