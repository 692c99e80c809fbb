"use strict";
// A few drawing helpers. Every text goes in by textContent, so that names with HTML in them stay text.
const SVG = "http://www.w3.org/2000/svg";
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
  return element;
}
function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== undefined && value !== null) element.setAttribute(name, value);
  for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
  return element;
}
function put(id, ...children) { const element = document.getElementById(id); element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined)); return element; }

const tip = document.getElementById("tip");
function showTip(target, x, y) {
  tip.textContent = target.getAttribute("data-tip");
  tip.classList.add("on");
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(6, Math.min(x + 12, innerWidth - box.width - 6)) + "px";
  tip.style.top = (y - box.height - 10 < 4 ? y + 16 : y - box.height - 10) + "px";
}
function hideTip() { tip.classList.remove("on"); }
document.addEventListener("pointermove", (event) => {
  const target = event.target.closest ? event.target.closest("[data-tip]") : null;
  if (target) showTip(target, event.clientX, event.clientY); else hideTip();
});
document.addEventListener("focusin", (event) => {
  const target = event.target.closest("[data-tip]");
  if (!target) return hideTip();
  const box = target.getBoundingClientRect();
  showTip(target, box.left + box.width / 2, box.top);
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
document.addEventListener("scroll", hideTip, { passive: true });

function niceTicks(low, high, wanted) {
  if (!(high > low)) return [low];
  const raw = (high - low) / Math.max(wanted, 1), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((candidate) => candidate >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(+(k * step).toPrecision(12));
  return ticks;
}
function logTicks(low, high, most = 7) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const m of [1, 2, 5]) { const t = m * 10 ** power; if (t >= low * 0.999 && t <= high * 1.001) ticks.push(t); }
  if (ticks.length < 3) return niceTicks(low, high, 5).filter((t) => t > 0);
  const powers = ticks.filter((t) => Math.abs(Math.log10(t) % 1) < 1e-9);
  return ticks.length > 7 || (ticks.length > most && powers.length > 2) ? powers : ticks;
}
function short(value) {
  if (value >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  if (value >= 1e4) return +(value / 1e3).toPrecision(3) + "k";
  return String(+value.toPrecision(4));
}
const SHAPES = {
  circle: (x, y, r) => s("circle", { cx: x, cy: y, r }),
  square: (x, y, r) => s("rect", { x: x - r * 0.9, y: y - r * 0.9, width: 1.8 * r, height: 1.8 * r }),
  triangle: (x, y, r) => s("path", { d: `M${x},${y - 1.15 * r}L${x + 1.1 * r},${y + 0.85 * r}L${x - 1.1 * r},${y + 0.85 * r}Z` }),
  diamond: (x, y, r) => s("path", { d: `M${x},${y - 1.3 * r}L${x + 1.3 * r},${y}L${x},${y + 1.3 * r}L${x - 1.3 * r},${y}Z` }),
};
const SHAPE_NAMES = Object.keys(SHAPES);
const DASHES = ["", "6 3", "2 2", "8 3 2 3"];

function scaleOf(axis, from, to) {
  const f = axis.log ? Math.log10 : (v) => v;
  const low = f(axis.min), span = f(axis.max) - low || 1;
  return (value) => from + ((f(value) - low) / span) * (to - from);
}
// chart({width, height, x: {min, max, log, label, format, ticks}, y: {...}, lines, points, bands, refs, label}) -> svg
function chart(spec) {
  const { width, height, x, y } = spec, left = spec.left ?? 46, right = spec.right ?? 10, top = 8, bottom = x.label ? 38 : 22;
  const sx = scaleOf(x, left, width - right), sy = scaleOf(y, height - bottom, top);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": spec.label });
  const xTicks = x.ticks ?? (x.log ? logTicks(x.min, x.max, width / 65) : niceTicks(x.min, x.max, Math.max(3, width / 90)));
  const yTicks = y.ticks ?? (y.log ? logTicks(y.min, y.max) : niceTicks(y.min, y.max, height / 45));
  for (const t of yTicks) {
    svg.append(s("line", { class: "gridline", x1: left, x2: width - right, y1: sy(t), y2: sy(t) }));
    svg.append(s("text", { x: left - 6, y: sy(t) + 3.5, "text-anchor": "end" }, (y.format || short)(t)));
  }
  for (const t of xTicks) {
    svg.append(s("line", { class: "gridline", x1: sx(t), x2: sx(t), y1: top, y2: height - bottom }));
    svg.append(s("text", { x: sx(t), y: height - bottom + 14, "text-anchor": "middle" }, (x.format || short)(t)));
  }
  svg.append(s("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  if (x.label) svg.append(s("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, x.label));
  if (y.label) svg.append(s("text", { x: 0, y: 0, transform: `translate(10 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label));
  for (const ref of spec.refs || []) {
    svg.append(s("line", { class: "ref", x1: sx(ref.x1), y1: sy(ref.y1), x2: sx(ref.x2), y2: sy(ref.y2) }));
    if (ref.label) svg.append(s("text", { x: sx(ref.x2) - 2, y: sy(ref.y2) - 4, "text-anchor": "end" }, ref.label));
  }
  for (const band of spec.bands || []) {
    const up = band.points.map((p) => `${sx(p[0])},${sy(p[2])}`), down = band.points.map((p) => `${sx(p[0])},${sy(p[1])}`).reverse();
    svg.append(s("polygon", { points: [...up, ...down].join(" "), fill: band.color, opacity: 0.15 }));
  }
  for (const bar of spec.bars || [])
    svg.append(s("rect", { x: sx(bar.x1) + 0.5, width: Math.max(0, sx(bar.x2) - sx(bar.x1) - 1), y: sy(bar.y), height: Math.max(0, sy(y.min) - sy(bar.y)), fill: bar.color, opacity: bar.opacity ?? 0.75, "data-tip": bar.tip }));
  for (const line of spec.lines || []) {
    const places = line.points.filter((p) => p[1] !== null && p[1] !== undefined && p[0] !== null).map((p) => `${sx(p[0]).toFixed(1)},${sy(p[1]).toFixed(1)}`).join(" ");
    const stroke = { points: places, fill: "none", stroke: line.color, "stroke-width": line.width ?? 1.8, "stroke-dasharray": line.dash || null, "stroke-linejoin": "round", opacity: line.opacity };
    svg.append(s("polyline", stroke));
    if (line.tip) svg.append(s("polyline", { points: places, fill: "none", stroke: "transparent", "stroke-width": 9, "data-tip": line.tip }));
  }
  const placed = [];
  for (const point of spec.points || []) {
    const px = sx(point.x), py = sy(point.y), group = s("g", { tabindex: point.tip ? 0 : null, role: "img", "aria-label": point.tip, "data-tip": point.tip });
    if (point.low !== undefined && point.low !== null) group.append(s("line", { x1: px, x2: px, y1: sy(Math.max(point.low, y.min)), y2: sy(Math.min(point.high, y.max)), stroke: point.color, "stroke-width": 1.2, opacity: 0.65 }));
    const mark = SHAPES[point.shape || "circle"](px, py, point.r ?? 5);
    mark.setAttribute("fill", point.hollow ? "var(--panel)" : point.color); mark.setAttribute("stroke", point.color); mark.setAttribute("stroke-width", 1.6);
    group.append(mark);
    if (point.name) placed.push([point.name, px, py]);
    svg.append(group);
  }
  labels(svg, placed, (spec.points || []).map((p) => [sx(p.x), sy(p.y)]), width - right, top);
  return svg;
}
// Names beside their marks, where they cover neither another name nor a mark; those without room stay in the tooltip.
function labels(svg, names, marks, edge, top) {
  const taken = marks.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  for (const [name, x, y] of names) {
    const w = name.length * 6.2, spots = [[x + 9, y + 4], [x - 9 - w, y + 4], [x - w / 2, y - 10], [x - w / 2, y + 18], [x + 7, y - 8], [x + 7, y + 15]];
    for (const [left, base] of spots) {
      const box = [left, base - 9, left + w, base + 3];
      if (left < 40 || left + w > edge + 4 || base - 9 < top - 6) continue;
      if (taken.some((t) => !(t[2] < box[0] || t[0] > box[2] || t[3] < box[1] || t[1] > box[3]))) continue;
      taken.push(box);
      svg.append(s("text", { class: "name", x: left, y: base }, name));
      break;
    }
  }
}
function legend(entries) {
  return h("div", { class: "legend" }, entries.map((entry) => {
    const mark = s("svg", { width: 22, height: 10, "aria-hidden": "true" }, s("line", { x1: 0, x2: 22, y1: 5, y2: 5, stroke: entry.color, "stroke-width": 2, "stroke-dasharray": entry.dash || null }));
    if (entry.shape) { const shape = SHAPES[entry.shape](11, 5, 3.6); shape.setAttribute("fill", entry.color); mark.append(shape); }
    return h("span", {}, mark, entry.name);
  }));
}
function frame(title, about, ...children) { return h("figure", {}, h("figcaption", {}, title, about ? h("small", {}, " · " + about) : null), children); }
// Draw at the width that the figure really has, so that text keeps its size on a phone.
function fitted(holder, height, draw) {
  const body = h("div", {});
  holder.append(body);
  redraws.push(() => { const width = Math.max(240, Math.round(body.clientWidth || holder.clientWidth || 360)); body.replaceChildren(draw(width, height)); });
  return holder;
}
let redraws = [];
