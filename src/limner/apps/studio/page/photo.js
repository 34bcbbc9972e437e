// A photo of one's own as a latent of the generator, then edited with the sliders.

import { finished, get, upload } from "./api.js";
import { compare } from "./compare.js";
import { alarm, announce, field, h } from "./dom.js";
import { fetchBlob } from "./api.js";
import { stateOf } from "./explore.js";

export async function show(body, { id, gone }) {
  const model = await get(`/api/runs/${id}/model`);
  const said = h("p", { class: "muted", role: "status" });
  const result = h("section", { class: "panel result", "aria-label": "Inverted picture", hidden: true });
  async function invert(file) {
    said.textContent = "Looking for the latent; the first picture of a run also trains an encoder, which takes one to two minutes …";
    try {
      const { job } = await upload(`/api/runs/${id}/invert?name=${encodeURIComponent(file.name || "photo.png")}`, file);
      const made = await finished(job, (done, total) => { if (total) said.textContent = `${Math.round((100 * done) / total)} %`; });
      if (gone()) return;
      const [before, after] = await Promise.all([made.before, made.after].map((blob) => fetchBlob(`/api/blobs/${blob}`)));
      Object.assign(stateOf(id, model), { latent: made.latent, axes: {}, directions: {}, truncation: 1 });
      result.replaceChildren(await compare(before, after), h("p", {}, made.message), h("a", { class: "button primary", href: `#/run/${id}/explore` }, "Edit it with sliders"));
      result.hidden = false;
      said.textContent = "";
      announce(made.message);
    } catch (error) {
      said.textContent = "";
      alarm(error);
    }
  }
  const picker = h("input", { type: "file", accept: "image/*", onchange: () => picker.files[0] && invert(picker.files[0]) });
  const zone = h("section", { class: "dropzone small", "aria-label": "Your photo" }, field("Drop a photo here, or choose one", picker), said);
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); zone.classList.remove("over"); if (event.dataTransfer.files[0]) invert(event.dataTransfer.files[0]); });
  body.append(h("p", { class: "lead" }, "The nearest picture that this generator can draw, and a latent to edit it with."), zone, result);
}
