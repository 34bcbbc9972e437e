// Files of a model for other programs.

import { finished, post } from "./api.js";
import { commandLine } from "./command.js";
import { alarm, count, h } from "./dom.js";

const FORMATS = {
  html: ["One page", "The model in one .html file that runs offline by a double click."],
  onnx: ["ONNX", "For other runtimes and languages; checked against this model before it is written."],
};

export async function show(body, { id, features }) {
  const line = commandLine("", "Command of the export");
  const cards = Object.entries(FORMATS).filter(([name]) => features[name]).map(([name, [title, text]]) => {
    const said = h("p", { class: "muted", role: "status" });
    const button = h("button", { type: "button", class: "primary", onclick: async () => {
      button.disabled = true;
      said.textContent = "Exporting …";
      try {
        const { job, command } = await post(`/api/runs/${id}/export`, { format: name });
        line.set(command);
        const made = await finished(job, (done, total) => { if (total) said.textContent = `${count(done)} of ${count(total)}`; });
        said.replaceChildren(made.message, " ", h("a", { href: `/api/blobs/${made.blob}`, download: made.name }, `Save ${made.name}`));
      } catch (error) {
        said.textContent = error.message;
        alarm(error);
      }
      button.disabled = false;
    } }, `Export ${title}`);
    return h("section", { class: "panel", "aria-label": title }, h("h2", {}, title), h("p", {}, text), button, said);
  });
  body.append(h("div", { class: "two even" }, cards), line);
}
