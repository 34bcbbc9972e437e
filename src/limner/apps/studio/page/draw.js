// Draw on a canvas; the translator answers while the pen moves.

import { commandOf, fetchBlob, get, newest, sendBlob, viewName } from "./api.js";
import { commandLine } from "./command.js";
import { alarm, drawn, field, h, saveBlob, slider } from "./dom.js";

export async function show(body, { id }) {
  const loading = h("p", { class: "muted", role: "status" }, "Loading the model …");
  body.append(loading);
  const model = await get(`/api/runs/${id}/model`);
  loading.remove();
  const side = Math.max(64, Math.min(256, Math.max(model.height, model.width)));
  const width = Math.round((side * model.width) / Math.max(model.height, model.width)), height = Math.round((side * model.height) / Math.max(model.height, model.width));
  const paper = h("canvas", { class: "paper", width, height, tabindex: "0", role: "img", "aria-label": "Drawing: use a pen, a finger or the mouse, or start from an example" });
  const result = h("canvas", { class: "picture", width, height, role: "img", "aria-label": "Translation of the drawing" });
  const line = commandLine("", "Command of this translation");
  const context = paper.getContext("2d", { willReadFrequently: true });
  const pen = { width: Math.max(1, Math.round(side / 64)), color: "#000000" };
  let direction = model.directions[0] || "", past = [], blob = null;
  const view = viewName();

  const clear = () => { context.fillStyle = "#ffffff"; context.fillRect(0, 0, width, height); };
  const answer = newest(async (_, number) => {
    const drawing = await new Promise((resolve) => { paper.toBlob(resolve, "image/png"); });
    const made = await sendBlob(`/api/runs/${id}/draw?${new URLSearchParams({ view, number, direction })}`, drawing);
    if (made.status === 204) return;
    blob = await made.blob();
    await drawn(result, blob);
    line.set(commandOf(made));
    result.dispatchEvent(new CustomEvent("drawn"));
  }, alarm);

  const point = (event) => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  };
  let last = null;
  paper.addEventListener("pointerdown", (event) => {
    paper.setPointerCapture(event.pointerId);
    past = [...past.slice(-19), context.getImageData(0, 0, width, height)];
    last = point(event);
    stroke(last, last);
  });
  paper.addEventListener("pointermove", (event) => {
    if (!last) return;
    const some = event.getCoalescedEvents?.() ?? [event];
    for (const one of some.length ? some : [event]) { const next = point(one); stroke(last, next); last = next; }
  });
  for (const name of ["pointerup", "pointercancel"]) paper.addEventListener(name, () => { last = null; });
  function stroke([ax, ay], [bx, by]) {
    context.strokeStyle = pen.color;
    context.lineWidth = pen.width;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(ax, ay);
    context.lineTo(bx + 0.01, by);
    context.stroke();
    answer();
  }
  const undo = () => { const before = past.pop(); if (before) { context.putImageData(before, 0, 0); answer(); } };
  paper.addEventListener("keydown", (event) => { if ((event.ctrlKey || event.metaKey) && event.key === "z") undo(); });

  async function lay(image) {
    past = [...past.slice(-19), context.getImageData(0, 0, width, height)];
    const bitmap = await createImageBitmap(image);
    clear();
    context.drawImage(bitmap, 0, 0, width, height);
    answer();
  }
  const color = h("input", { type: "color", value: pen.color, oninput: () => { pen.color = color.value; } });
  const picker = h("input", { type: "file", accept: "image/*", onchange: () => picker.files[0] && lay(picker.files[0]).catch(alarm) });
  const select = h("select", { onchange: () => { direction = select.value; answer(); } }, model.directions.map((one) => h("option", { value: one }, one === "a2b" ? "First to second" : "Second to first")));
  const box = h("div", { class: "picture-box" }, paper);
  box.addEventListener("dragover", (event) => event.preventDefault());
  box.addEventListener("drop", (event) => { event.preventDefault(); const file = event.dataTransfer.files[0]; if (file) lay(file).catch(alarm); });
  clear();
  body.append(h("p", { class: "lead" }, "Draw on the left; the model answers on the right."), h("div", { class: "two even" },
    h("section", { class: "panel stage", "aria-label": "Drawing" }, box, h("div", { class: "row" }, h("button", { type: "button", onclick: undo }, "Undo"),
      h("button", { type: "button", onclick: () => { past = [...past.slice(-19), context.getImageData(0, 0, width, height)]; clear(); answer(); } }, "Clear"),
      h("button", { type: "button", onclick: async () => lay(await fetchBlob(`/api/runs/${id}/example?number=${Math.floor(Math.random() * 1000)}`)) }, "Example")),
    slider({ label: "Pen", min: 1, max: Math.round(side / 6), step: 1, value: pen.width, format: (v) => `${v} px`, oninput: (v) => { pen.width = v; } }),
    h("div", { class: "pair" }, field("Color", color), field("Picture to draw on", picker)), model.directions.length > 1 ? field("Direction", select) : null),
    h("section", { class: "panel stage", "aria-label": "Translation" }, h("div", { class: "picture-box" }, result), h("div", { class: "row" }, h("button", { type: "button", onclick: () => blob && saveBlob(blob, "translated.png") }, "Save PNG")))), line);
  answer();
}
