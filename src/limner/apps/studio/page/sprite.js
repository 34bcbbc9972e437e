// Pieces of a sheet of square thumbnails, as a grid that wraps.

import { h } from "./dom.js";

export function sprite(address, columns, total, labels) {
  const grid = h("div", { class: "sprite", role: "img", "aria-label": labels || `${total} of the pictures` });
  for (let i = 0; i < total; i += 1) {
    const x = (i % columns) / Math.max(1, columns - 1), y = Math.floor(i / columns);
    grid.append(h("span", { style: { "background-image": `url("${address}")`, "background-size": `${100 * columns}% auto`, "background-position": `${100 * x}% ${0}%`, "--row": y } }));
  }
  // the height of the sheet is known once it is loaded: positions in percent need the number of rows
  const image = new Image();
  image.onload = () => {
    const rows = Math.round((image.naturalHeight * columns) / image.naturalWidth);
    for (const piece of grid.children) {
      piece.style.setProperty("background-position-y", `${rows > 1 ? (100 * piece.style.getPropertyValue("--row")) / (rows - 1) : 0}%`);
    }
  };
  image.src = address;
  return grid;
}
