// Curves over images seen, as SVG drawn here: small multiples that share their horizontal axis.

import { count, h, short, svg } from "./dom.js";

const WIDTH = 360, HEIGHT = 150, LEFT = 44, BOTTOM = 20, TOP = 10, RIGHT = 8;
const MOST = 240; // points of a line
const NAMES = {
  d_loss: "discriminator", g_loss: "generator", logit_gap: "logits: real − sample", d_accuracy: "discriminator's accuracy", diversity: "diversity of samples",
  overfitting: "overfitting", drift: "change of a sample", loss: "loss", reconstruction: "reconstruction", kl: "KL divergence",
};
const FEATURES = { convolutions: "random convolutions", own: "own features", pixels: "pixels", inception: "Inception" };

// The name of a log column, as people read it.
export function columnName(name) {
  if (NAMES[name]) return NAMES[name];
  const [kind, ...rest] = name.split("_");
  if (kind === "fd") return `Fréchet distance, ${FEATURES[rest.join("_")] || rest.join(" ")}`;
  return { psnr: "PSNR", ssim: "SSIM", rd_loss: "rate-distortion loss", nll: "negative log-likelihood" }[name] || name.replaceAll("_", " ");
}

const HIDDEN = new Set(["images", "seconds", "lr_factor", "doctor", "variety"]);

export function charts(place) {
  const made = new Map();
  let entries = [], run = null, marked = null;

  function update(now, described) {
    entries = now;
    run = described;
    for (const [title, columns] of groups(entries, run)) {
      if (!made.has(title)) {
        const chart = plot(title);
        made.set(title, chart);
        place.append(chart.figure);
      }
      made.get(title).draw(entries, columns, Math.max(run.budget, run.images), marked);
    }
  }
  return { update, mark: (images) => { marked = images; if (run) made.forEach((chart) => chart.mark(images)); } };
}

function groups(entries, run) {
  const columns = new Set();
  for (const entry of entries) for (const name of Object.keys(entry)) if (!HIDDEN.has(name) && typeof entry[name] === "number") columns.add(name);
  const figures = Object.keys(run.figures).filter((name) => columns.has(name));
  const losses = [...columns].filter((name) => /loss$/.test(name));
  const rest = [...columns].filter((name) => !figures.includes(name) && !losses.includes(name) && !/^(gradient|step)_/.test(name));
  const found = [];
  if (losses.length) found.push(["Losses", losses]);
  for (const name of figures.slice(0, 2)) found.push([title(name), [name]]);
  for (const name of rest.slice(0, 6)) found.push([title(name), [name]]);
  return found;
}

const title = (name) => columnName(name)[0].toUpperCase() + columnName(name).slice(1);

function plot(title) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, class: "plot" });
  const legend = h("figcaption", {});
  const figure = h("figure", { class: "panel chart" }, h("div", { class: "chart-head" }, h("h3", {}, title), legend), picture);
  let points = [], right = 1, marker = null;

  const x = (images) => LEFT + (images / right) * (WIDTH - LEFT - RIGHT);

  function draw(entries, columns, budget, marked) {
    right = Math.max(1, budget);
    points = columns.map((name) => thinned(entries.filter((entry) => typeof entry[name] === "number").map((entry) => [entry.images, entry[name]])));
    const values = points.flat().map(([, value]) => value);
    if (!values.length) return;
    const [low, high] = bounds(values);
    const y = (value) => TOP + (1 - (Math.min(high, Math.max(low, value)) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const tick of ticks(low, high)) {
      parts.push(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick), class: "grid" }), svg("text", { x: LEFT - 6, y: y(tick) + 3.5, class: "tick left" }, String(Number(tick.toPrecision(3)))));
    }
    for (const share of [0, 0.5, 1]) parts.push(svg("text", { x: x(right * share), y: HEIGHT - 5, class: `tick ${["start", "middle", "end"][share * 2]}` }, compact(right * share)));
    points.forEach((line, i) => {
      if (line.length > 20) parts.push(svg("path", { d: path(line, x, y), class: `line faint c${i}` }), svg("path", { d: path(smooth(line), x, y), class: `line c${i}` }));
      else {
        parts.push(svg("path", { d: path(line, x, y), class: `line c${i}` }));
        parts.push(...line.map(([images, value]) => svg("circle", { cx: x(images), cy: y(value), r: 2.2, class: `dot c${i}` })));
      }
    });
    marker = svg("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "mark-line-plot" });
    parts.push(marker);
    picture.replaceChildren(...parts);
    mark(marked);
    const last = columns.map((name, i) => [columnName(name), points[i].at(-1)]);
    legend.replaceChildren(...last.map(([name, point], i) => h("span", { class: "key" }, h("i", { class: `c${i}`, "aria-hidden": "true" }), columns.length > 1 ? `${name} ` : "", h("b", {}, point ? short(point[1]) : "–"))));
    picture.setAttribute("aria-label", `${title}: ${last.map(([name, point]) => `${name} ${point ? short(point[1]) : "no value"}`).join(", ")} after ${count(entries.at(-1).images)} images`);
  }
  function mark(images) {
    if (!marker) return;
    marker.toggleAttribute("hidden", images === null);
    if (images !== null) { marker.setAttribute("x1", x(images)); marker.setAttribute("x2", x(images)); }
  }
  return { figure, draw, mark };
}

function thinned(line) {
  if (line.length <= MOST) return line;
  const size = line.length / MOST;
  return Array.from({ length: MOST }, (_, i) => {
    const some = line.slice(Math.floor(i * size), Math.max(Math.floor(i * size) + 1, Math.floor((i + 1) * size)));
    return [some.at(-1)[0], some.reduce((sum, [, value]) => sum + value, 0) / some.length];
  });
}

// A centered moving average over a twentieth of the line.
function smooth(line) {
  const reach = Math.max(1, Math.round(line.length / 40));
  return line.map(([images], i) => {
    const some = line.slice(Math.max(0, i - reach), i + reach + 1);
    return [images, some.reduce((sum, [, value]) => sum + value, 0) / some.length];
  });
}

// The range of a chart: outliers beyond the middle 98 % are clipped, so that one spike does not flatten a line.
function bounds(values) {
  const sorted = [...values].sort((a, b) => a - b);
  let low = sorted[Math.floor(0.01 * (sorted.length - 1))], high = sorted[Math.ceil(0.99 * (sorted.length - 1))];
  const room = 0.08 * (high - low) || Math.abs(high) * 0.1 || 0.5;
  return [low - room, high + room];
}

function ticks(low, high) {
  const raw = (high - low) / 3, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-12; value += step) found.push(Math.abs(value) < step / 1e6 ? 0 : value);
  return found;
}

const path = (line, x, y) => line.map(([images, value], i) => `${i ? "L" : "M"}${x(images).toFixed(1)} ${y(value).toFixed(1)}`).join("");

const compact = (value) => (value >= 1e6 ? `${short(value / 1e6)} M` : value >= 1000 ? `${Math.round(value / 1000)} k` : String(Math.round(value)));
