// A map of the latent space: a mosaic of what lies where, real pictures as landmarks, and the picture under the pointer.

import { fetchBlob, get, post } from "./api.js";
import { alarm, announce, field, h } from "./dom.js";
import { stage, stateOf } from "./explore.js";

export async function show(body, { id, gone }) {
  const loading = h("p", { class: "muted", role: "status" }, "Loading the model …");
  body.append(loading);
  const model = await get(`/api/runs/${id}/model`);
  loading.remove();
  if (!model.draws) return;
  const shared = stateOf(id, model);
  const state = { seed: shared.seed, label: shared.label, truncation: shared.truncation, axes: {}, directions: {} };
  const { canvas, line, save, draw } = stage(id, model, "Picture at this place of the map");
  const mosaic = h("canvas", { class: "mosaic", width: 1, height: 1, "aria-hidden": "true" });
  const cross = h("span", { class: "cross", "aria-hidden": "true" });
  const marks = h("div", { class: "landmarks" });
  const note = h("p", { class: "hint" });
  const place = h("div", { class: "map", tabindex: "0", role: "application", "aria-label": "Map of the latent space: arrow keys walk, with Shift in larger steps" }, mosaic, marks, cross);
  const where = h("output", { class: "caption" });
  let reach = 2.5, frozen = false;

  const go = (x, y) => {
    state.at = [clamp(x), clamp(y)].map((v) => Math.round(v * 1000) / 1000);
    cross.style.left = `${50 + (50 * state.at[0]) / reach}%`;
    cross.style.top = `${50 - (50 * state.at[1]) / reach}%`;
    where.textContent = `${state.at[0].toFixed(2)}, ${state.at[1].toFixed(2)}`;
    draw(state);
  };
  const clamp = (v) => Math.max(-reach, Math.min(reach, v));
  const pointed = (event) => {
    const box = place.getBoundingClientRect();
    go(((event.clientX - box.left) / box.width) * 2 * reach - reach, reach - ((event.clientY - box.top) / box.height) * 2 * reach);
  };
  place.addEventListener("pointermove", (event) => { if (!frozen || event.buttons) pointed(event); });
  place.addEventListener("pointerdown", (event) => { frozen = !frozen || event.pointerType !== "mouse"; place.classList.toggle("frozen", frozen); pointed(event); });
  place.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 5 : 1) * 0.1;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step], Home: null }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const [x, y] = move ? state.at : [0, 0];
    go(x + (move?.[0] ?? 0), y + (move?.[1] ?? 0));
    announce(where.textContent);
  });

  let asked = 0;
  async function load() {
    const number = (asked += 1);
    place.setAttribute("aria-busy", "true");
    note.textContent = "Drawing the map …";
    try {
      const map = await post(`/api/runs/${id}/map`, { state: { ...state, at: null } });
      if (gone() || number !== asked) return;
      reach = map.reach;
      const bitmap = await createImageBitmap(await fetchBlob(`/api/runs/${id}/map/${map.id}/pictures.png`));
      mosaic.width = bitmap.width;
      mosaic.height = bitmap.height;
      mosaic.getContext("2d").drawImage(bitmap, 0, 0);
      marks.replaceChildren();
      if (map.landmarks.length) {
        const real = await createImageBitmap(await fetchBlob(`/api/runs/${id}/map/${map.id}/landmarks.png`));
        marks.append(...map.landmarks.map((mark, i) => landmark(mark, real, i)));
      }
      note.textContent = `${map.landmarks.length ? "Framed pictures are real: each stands where a drawn picture comes nearest to it. " : ""}${map.note}`;
      go(...(state.at || [0, 0]));
    } catch (error) {
      note.textContent = "";
      alarm(error);
    } finally {
      if (number === asked) place.removeAttribute("aria-busy");
    }
  }
  function landmark(mark, real, i) {
    const picture = h("canvas", { width: model.width, height: model.height, "aria-hidden": "true" });
    picture.getContext("2d").drawImage(real, i * model.width, 0, model.width, model.height, 0, 0, model.width, model.height);
    const text = `Real picture ${i + 1}, distance ${mark.distance} of the median`;
    return h("button", { type: "button", class: "landmark", title: text, "aria-label": `${text}: go there`, style: { left: `${50 + (50 * mark.at[0]) / reach}%`, top: `${50 - (50 * mark.at[1]) / reach}%` },
      onpointerdown: (event) => event.stopPropagation(), onclick: () => { frozen = true; place.classList.add("frozen"); go(...mark.at); } }, picture);
  }

  const label = h("select", { onchange: () => { state.label = label.value; load(); } }, model.classes.map((name) => h("option", { selected: name === state.label }, name)));
  const seed = h("input", { type: "number", min: 0, step: 1, value: state.seed, inputmode: "numeric", onchange: () => { state.seed = Math.max(0, Math.floor(Number(seed.value) || 0)); load(); } });
  const dice = h("button", { type: "button", onclick: () => { state.seed = Math.floor(Math.random() * 1e6); seed.value = state.seed; load(); } }, "New");
  body.append(h("div", { class: "two map-layout" }, h("section", { class: "panel map-panel", "aria-label": "Map" }, place, note),
    h("section", { class: "panel stage", "aria-label": "Picture" }, h("div", { class: "picture-box" }, canvas), h("div", { class: "row" }, save, where),
      h("p", { class: "hint" }, "Move over the map; click to hold a place, click again to go on."),
      h("div", { class: "pair" }, model.classes.length ? field("Class", label) : null, field("Seed of what lies off the map", h("span", { class: "joined" }, seed, dice))))), line);
  await load();
  return () => Object.assign(shared, { seed: state.seed, label: state.label });
}
