// Two pictures of one size with a divider between them, moved by pointer or keys.

import { h } from "./dom.js";

export async function compare(before, after) {
  const [one, two] = [before, after].map((blob, i) => h("img", { src: URL.createObjectURL(blob), alt: i ? "After" : "Before", draggable: "false" }));
  await Promise.all([one, two].map((image) => image.decode()));
  [one, two].forEach((image) => URL.revokeObjectURL(image.src));
  const range = h("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, "aria-label": "How much of the picture before is shown" });
  const box = h("div", { class: "compare" }, two, h("div", { class: "compare-before" }, one), h("span", { class: "divider", "aria-hidden": "true" }), range,
    h("span", { class: "tag left", "aria-hidden": "true" }, "Before"), h("span", { class: "tag right", "aria-hidden": "true" }, "After"));
  if (two.naturalWidth < 300) box.classList.add("pixels");
  box.style.setProperty("--ratio", `${two.naturalWidth} / ${two.naturalHeight}`);
  box.style.setProperty("--wide", `${Math.min(two.naturalWidth < 300 ? two.naturalWidth * Math.floor(600 / two.naturalWidth) : two.naturalWidth, 1100)}px`);
  const update = () => { box.style.setProperty("--at", `${range.value}%`); range.setAttribute("aria-valuetext", `${Math.round(range.value)} % before`); };
  range.addEventListener("input", update);
  update();
  return box;
}
