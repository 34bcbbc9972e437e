// Sliders of a generator: class, seed, truncation, axes, directions, style mixing. Newest wins, so the last frame is the last value.

import { commandOf, finished, get, newest, post, send, viewName } from "./api.js";
import { commandLine } from "./command.js";
import { alarm, drawn, field, h, saveBlob, slider } from "./dom.js";

const states = new Map(); // run -> what its picture is now, kept between tabs

export function stateOf(id, model) {
  if (!states.has(id)) states.set(id, { seed: 1, label: model.classes[0] ?? null, truncation: 1, axes: {}, directions: {} });
  return states.get(id);
}

// The part that Explore, Map and Your photo share: a canvas with the picture of a state, its command, and a button to save it.
export function stage(id, model, name) {
  const canvas = h("canvas", { class: "picture", width: model.width, height: model.height, role: "img", "aria-label": name });
  const line = commandLine("", "Command of this picture");
  const view = viewName();
  let blob = null;
  const draw = newest(async ({ state, began }, number) => {
    const answer = await send(`/api/runs/${id}/picture`, { state, view, number });
    if (answer.status === 204) return;
    blob = await answer.blob();
    await drawn(canvas, blob);
    line.set(commandOf(answer));
    canvas.dispatchEvent(new CustomEvent("drawn", { detail: { number, state, milliseconds: performance.now() - began } }));
  }, alarm);
  const save = h("button", { type: "button", onclick: () => blob && saveBlob(blob, "picture.png") }, "Save PNG");
  return { canvas, line, save, draw: (state) => draw({ state: structuredClone(state), began: performance.now() }) };
}

export async function show(body, { id }) {
  const loading = h("p", { class: "muted", role: "status" }, "Loading the model …");
  body.append(loading);
  const model = await get(`/api/runs/${id}/model`);
  loading.remove();
  if (!model.draws) {
    body.append(h("p", { class: "notice" }, "This model encodes pictures as codes and has no latents to move: use it on your pictures."));
    return;
  }
  const state = stateOf(id, model);
  delete state.at;
  const { canvas, line, save, draw } = stage(id, model, "Generated picture");
  const seeds = strip(id, model, state, () => { seed.value = state.seed; draw(state); });
  const note = state.latent ? h("p", { class: "hint" }, "This is your photo; a new seed leaves it.") : null;
  const changed = (whole) => { if (whole) { delete state.latent; note?.remove(); } draw(state); if (whole) seeds.update(); };

  const label = h("select", { onchange: () => { state.label = label.value; changed(true); } }, model.classes.map((name) => h("option", { selected: name === state.label }, name)));
  const seed = h("input", { type: "number", min: 0, step: 1, value: state.seed, inputmode: "numeric", onchange: () => { state.seed = Math.max(0, Math.floor(Number(seed.value) || 0)); changed(true); } });
  const dice = h("button", { type: "button", onclick: () => { state.seed = Math.floor(Math.random() * 1e6); seed.value = state.seed; changed(true); } }, "New");
  const truncation = slider({ label: "Truncation", min: model.least_truncation, max: 1, step: 0.05, value: state.truncation, format: (v) => v.toFixed(2), oninput: (v) => { state.truncation = v; changed(false); } });
  const sliders = Array.from({ length: model.axes }, (_, i) => slider({
    label: `Axis ${i + 1}`, min: -4, max: 4, step: 0.05, value: state.axes[i + 1] || 0, format: (v) => `${v > 0 ? "+" : ""}${v.toFixed(2)}`,
    oninput: (v) => { if (v) state.axes[i + 1] = v; else delete state.axes[i + 1]; changed(false); },
  }));
  const named = (model.named_directions || []).map((one) => slider({
    label: one.title, min: -one.reach, max: one.reach, step: one.reach / 50, value: state.directions[one.name] || 0, format: (v) => `${v > 0 ? "+" : ""}${v.toFixed(2)}`,
    oninput: (v) => { if (v) state.directions[one.name] = v; else delete state.directions[one.name]; changed(false); },
  }));
  const reset = h("button", { type: "button", class: "quiet", onclick: () => {
    state.axes = {};
    state.directions = {};
    state.truncation = 1;
    delete state.latent;
    [...sliders, ...named].forEach((one) => one.set(0));
    truncation.set(1);
    changed(false);
  } }, "Reset");

  body.append(h("div", { class: "two studio" },
    h("section", { class: "panel stage", "aria-label": "Picture" }, h("div", { class: "picture-box" }, canvas), note, h("div", { class: "row" }, save, reset), seeds.element),
    h("section", { class: "panel controls", "aria-label": "Controls" },
      h("div", { class: "pair" }, model.classes.length ? field("Class", label) : null, field("Seed", h("span", { class: "joined" }, seed, dice))),
      h("h2", {}, "Axes"), h("p", { class: "hint" }, "Directions along which this model's pictures vary most, in standard deviations."), sliders,
      named.length ? [h("h2", {}, "Directions"), model.named_directions.map((one, i) => [named[i], one.note ? h("p", { class: "hint" }, one.note) : null])]
        : [h("h2", {}, "Directions"), finder(id, line, () => { body.replaceChildren(); show(body, { id }); })],
      h("h2", {}, "Fidelity"), truncation, h("p", { class: "hint" }, model.styles ? "Moves styles toward their mean: fewer failures, less diversity." : "1 draws all pictures, less only the most typical ones. The first use measures them."),
      model.styles ? mixing(model, state, () => changed(false)) : null)), line);
  draw(state);
  seeds.update();
}

function finder(id, line, done) {
  const said = h("p", { class: "hint", role: "status" }, "Named directions with measured effects. Finding them takes minutes, once for each run.");
  const button = h("button", { type: "button", onclick: async () => {
    button.disabled = true;
    try {
      const { job, command } = await post(`/api/runs/${id}/directions`);
      line.set(command);
      await finished(job, (part, total) => { if (total) said.textContent = `${Math.round((100 * part) / total)} %`; });
      done();
    } catch (error) {
      button.disabled = false;
      alarm(error);
    }
  } }, "Find directions");
  return [said, button];
}

// Eight pictures of the next seeds; one is chosen by a click.
function strip(id, model, state, chosen) {
  const first = { value: state.seed };
  const view = viewName();
  const element = h("div", { class: "strip", role: "group", "aria-label": "Pictures of other seeds" });
  const size = 8;
  const load = newest(async (now, number) => {
    const wanted = Array.from({ length: size }, (_, i) => ({ seed: now.seed + i + 1, label: now.label }));
    const answer = await send(`/api/runs/${id}/strip`, { states: wanted, view, number });
    if (answer.status === 204) return;
    const bitmap = await createImageBitmap(await answer.blob());
    element.replaceChildren(...wanted.map((one, i) => {
      const canvas = h("canvas", { width: model.width, height: model.height, "aria-hidden": "true" });
      canvas.getContext("2d").drawImage(bitmap, i * model.width, 0, model.width, model.height, 0, 0, model.width, model.height);
      return h("button", { type: "button", "aria-label": `Seed ${one.seed}`, onclick: () => { state.seed = one.seed; delete state.latent; first.value = one.seed; chosen(); load({ ...state }); } }, canvas);
    }));
  }, alarm);
  return { element, update: () => load({ ...state }) };
}

function mixing(model, state, changed) {
  const seed = h("input", { type: "number", min: 0, step: 1, value: state.mix_seed ?? 100, inputmode: "numeric", disabled: state.mix_seed === undefined });
  const from = slider({ label: "From layer", min: 0, max: model.layers, step: 1, value: state.mix_from ?? Math.floor(model.layers / 2), format: (v) => `${v} of ${model.layers}`, oninput: () => update() });
  from.input.disabled = seed.disabled;
  const on = h("input", { type: "checkbox", id: "mix", checked: !seed.disabled });
  const update = () => {
    seed.disabled = from.input.disabled = !on.checked;
    if (on.checked) Object.assign(state, { mix_seed: Math.max(0, Math.floor(Number(seed.value) || 0)), mix_from: Number(from.input.value) });
    else { delete state.mix_seed; delete state.mix_from; }
    changed();
  };
  on.addEventListener("change", update);
  seed.addEventListener("change", update);
  return [h("h2", {}, "Style mixing"), h("p", { class: "check" }, on, h("label", { for: "mix" }, "Later layers take the styles of another seed")), field("Second seed", seed), from];
}
