// A picture of one's own through a model: dropped or chosen, then shown before and after.

import { fetchBlob, get, upload } from "./api.js";
import { commandLine } from "./command.js";
import { compare } from "./compare.js";
import { alarm, announce, field, h, saveBlob, slider } from "./dom.js";

export async function show(body, { id, run, gone }) {
  const loading = h("p", { class: "muted", role: "status" }, "Loading the model …");
  body.append(loading);
  const model = await get(`/api/runs/${id}/model`);
  loading.remove();
  const options = { direction: model.directions[0] || "", strength: 1, quality: 50 };
  const line = commandLine("", "Command of this picture");
  const result = h("section", { class: "panel result", "aria-label": "Result", hidden: true });
  let file = null, name = "picture.png", asked = 0;

  async function use() {
    if (!file) return;
    const number = (asked += 1);
    zone.setAttribute("aria-busy", "true");
    try {
      const made = await upload(`/api/runs/${id}/use?${new URLSearchParams({ name, ...options })}`, file);
      if (gone() || number !== asked) return;
      await present(made);
      announce("The result is shown.");
    } catch (error) {
      alarm(error);
    } finally {
      if (number === asked) zone.removeAttribute("aria-busy");
    }
  }

  async function present(made) {
    const [before, after] = await Promise.all([made.before, made.after].map((blob) => fetchBlob(`/api/blobs/${blob}`)));
    const facts = Object.entries(made.facts);
    const stem = name.replace(/\.[^.]+$/, "");
    result.replaceChildren(
      made.classes.length ? chances(before, made.classes) : await compare(before, after),
      facts.length ? h("dl", { class: "facts" }, facts.map(([key, value]) => [h("dt", {}, key[0].toUpperCase() + key.slice(1)), h("dd", {}, value)])) : "",
      made.classes.length ? "" : h("div", { class: "row" }, h("button", { type: "button", onclick: () => saveBlob(after, `${stem}-${run.kind}.png`) }, "Save PNG"),
        made.file ? h("button", { type: "button", onclick: async () => saveBlob(await fetchBlob(`/api/blobs/${made.file}`), `${stem}.limn`) }, "Save .limn") : null));
    result.hidden = false;
    line.set(made.command);
  }

  const picker = h("input", { type: "file", accept: "image/*", onchange: () => { if (picker.files[0]) choose(picker.files[0], picker.files[0].name); } });
  const choose = (blob, called) => { file = blob; name = called; zone.querySelector(".chosen").textContent = called; use(); };
  const example = h("button", { type: "button", onclick: async () => {
    const number = Math.floor(Math.random() * 1000);
    choose(await fetchBlob(`/api/runs/${id}/example?number=${number}`), `training-picture-${number}.png`);
  } }, "Try a training picture");
  const zone = h("section", { class: "dropzone small", "aria-label": "Your picture" }, h("div", { class: "row" }, field("Drop a picture here, or choose one", picker), example), h("p", { class: "chosen muted" }),
    controls(model, options, use));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const dropped = event.dataTransfer.files[0];
    if (dropped) choose(dropped, dropped.name);
  });
  body.append(h("p", { class: "lead" }, purpose(model)), zone, result, line);
}

function purpose(model) {
  const works = {
    restorer: `This model (${model.task}) restores pictures of any size${model.scale > 1 ? `, ${model.scale} times as large` : ""}.`, codec: "This model compresses pictures of any size.",
    translator: "This model translates pictures of any size.", autoencoder: "This model rebuilds pictures from what it encodes.", classifier: "This model names classes.",
  };
  return works[model.kind] || "";
}

function controls(model, options, use) {
  let timer;
  const later = () => { clearTimeout(timer); timer = setTimeout(use, 250); };
  if (model.kind === "restorer") return slider({ label: "Strength", min: 0, max: 1, step: 0.05, value: 1, format: (v) => v.toFixed(2), oninput: (v) => { options.strength = v; later(); } });
  if (model.kind === "codec") return slider({ label: "Quality", min: 0, max: 100, step: 1, value: 50, oninput: (v) => { options.quality = v; later(); } });
  if (model.directions.length > 1) {
    const select = h("select", { onchange: () => { options.direction = select.value; use(); } }, model.directions.map((one) => h("option", { value: one }, one === "a2b" ? "First to second" : "Second to first")));
    return field("Direction", select);
  }
  return null;
}

function chances(before, classes) {
  return h("div", { class: "two" }, h("img", { class: "shown", src: URL.createObjectURL(before), alt: "Your picture" }),
    h("ul", { class: "bars" }, classes.map(([name, chance]) => h("li", {}, h("span", {}, name), h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${100 * chance}%` } })), h("span", { class: "number" }, `${(100 * chance).toFixed(1)} %`)))));
}
