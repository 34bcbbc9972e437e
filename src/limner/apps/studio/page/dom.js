// Elements, messages, and numbers as people read them.

const SVG = "http://www.w3.org/2000/svg";

// h("button", { class: "primary", onclick: f }, "Text"): an element; `style` is an object, booleans set or leave out an attribute.
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const announce = (text) => { document.getElementById("status").textContent = text; };

let hiding;
export function alarm(error) {
  if (error?.name === "AbortError") return;
  const place = document.getElementById("alert");
  place.textContent = error.message || String(error);
  place.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { place.hidden = true; }, 9000);
}

export const count = (number) => Number(number).toLocaleString("en-US");

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}

export function short(value) {
  const size = Math.abs(value);
  if (size >= 10000) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : size >= 1 ? value.toFixed(2) : size >= 0.001 || size === 0 ? value.toFixed(3) : value.toExponential(1);
}

let numbers = 0;
export const uniqueId = (stem) => `${stem}-${(numbers += 1)}`;

// A labeled field: the label's text, then the control.
export function field(text, control, hint) {
  const named = control.matches("input, select") ? control : control.querySelector("input, select"); // it may have a button beside it
  named.id ||= uniqueId("field");
  const note = hint ? h("small", { id: `${named.id}-hint`, class: "hint" }, hint) : null;
  if (note) named.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: named.id }, text), control, note);
}

// Color a range from its left end to its value, or from zero where it has two sides.
export function paintRange(input) {
  const [min, max, value] = [input.min, input.max, input.value].map(Number);
  const part = (v) => (100 * (v - min)) / Math.max(1e-9, max - min);
  const start = min < 0 && max > 0 ? part(0) : 0;
  input.style.setProperty("--from", `${Math.min(start, part(value))}%`);
  input.style.setProperty("--to", `${Math.max(start, part(value))}%`);
}

// A slider with its name and value. format: how the value is shown and read out.
export function slider({ label, min, max, step, value, format = (v) => String(v), oninput }) {
  const id = uniqueId("slider");
  const output = h("output", { for: id }, format(value));
  const input = h("input", { type: "range", id, min, max, step, value, "aria-valuetext": format(value) });
  const show = () => {
    output.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
    paintRange(input);
  };
  input.addEventListener("input", () => { show(); oninput(Number(input.value)); });
  show();
  const row = h("div", { class: "slider" }, h("label", { for: id }, label), input, output);
  row.set = (to) => { input.value = to; show(); };
  row.input = input;
  return row;
}

export function clipped(name, length = 36) {
  return name.length <= length ? name : `${name.slice(0, length / 2)}…${name.slice(-length / 2 + 1)}`;
}

export function saveBlob(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export async function drawn(canvas, blob) {
  const bitmap = await createImageBitmap(blob);
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
}
