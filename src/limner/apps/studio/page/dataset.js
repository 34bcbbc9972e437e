// A data set before training: what is in it, the recipe, the minutes, the command.

import { finished, get, post } from "./api.js";
import { alarm, announce, clipped, count, field, h, plural } from "./dom.js";
import { commandLine } from "./command.js";
import { inspected } from "./home.js";
import { crumbs } from "./main.js";
import { sprite } from "./sprite.js";

const KINDS = {
  generator: "Generators draw new pictures", autoencoder: "Autoencoders encode and rebuild pictures", translator: "Translators turn one kind of picture into another",
  restorer: "Restorers undo damage", codec: "Codecs compress", classifier: "Classifiers name classes",
};

export async function show(view, { fields, gone }) {
  crumbs(["Runs", "#/"], ["New training"]);
  const source = fields.source || "";
  const progress = h("p", { class: "muted", role: "status" }, "Reading the pictures …");
  view.append(h("h1", {}, clipped(source.split(/[\\/]/).filter(Boolean).at(-1) || source, 60)), progress);
  const home = await get("/api/home");
  let found;
  try {
    found = await inspected(source, undefined, (done, total) => { progress.textContent = total ? `Reading: ${count(done)} of ${plural(total, "picture")}` : "Reading the pictures …"; });
  } catch (error) {
    if (gone()) return;
    progress.replaceWith(h("div", { class: "notice", role: "alert" }, h("p", {}, error.message), h("a", { class: "button", href: "#/" }, "Choose other pictures")));
    return;
  }
  if (gone()) return;
  const { id, report } = found;
  announce(`${plural(report.count, "picture")} found.`);
  progress.replaceWith(h("p", { class: "lead" }, summary(report)));
  const start = training(source, report, home);
  view.append(h("div", { class: "two wide-left" },
    h("section", { class: "panel", "aria-label": "Pictures" }, sprite(`/api/data/${id}/sheet.png`, report.columns, report.thumbnails), inside(report)), start));
}

function summary(report) {
  const classes = report.class_count ? ` in ${plural(report.class_count, "class", "classes")}` : "";
  return `${plural(report.count, "picture")}${classes}, trained on as ${report.spec}. ${report.origin[0].toUpperCase()}${report.origin.slice(1)}.`;
}

function inside(report) {
  const most = Math.max(1, ...report.classes.map(([, number]) => number));
  const sizes = report.sizes.map((one) => `${one.width} × ${one.height} (${count(one.count)})`).join(", ");
  const more = report.different_sizes > report.sizes.length ? ` and ${plural(report.different_sizes - report.sizes.length, "other")}` : "";
  const other = Object.entries(report.others).map(([suffix, number]) => `${number} ${suffix || "without suffix"}`).join(", ");
  const rows = [["Sizes in the files", sizes + more], ["Exact duplicates", count(report.duplicates)], ["Damaged", count(report.bad_count)], ["Other files", other || "0"]];
  return [
    report.notes.length ? h("ul", { class: "notes" }, report.notes.map((note) => h("li", {}, note))) : null,
    h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    report.classes.length ? h("details", { open: report.classes.length <= 12 }, h("summary", {}, "Classes"),
      h("ul", { class: "bars" }, report.classes.map(([name, number]) => h("li", {}, h("span", {}, clipped(name, 30)),
        h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * number) / most}%` } })), h("span", { class: "number" }, count(number)))))) : null,
    report.bad.length ? h("details", {}, h("summary", {}, "Damaged pictures"), h("ul", {}, report.bad.map(([name, why]) => h("li", {}, `${name}: ${why}`)))) : null,
    report.attribution ? h("p", { class: "muted small" }, report.attribution) : null,
  ];
}

function training(source, report, home) {
  const groups = Map.groupBy ? Map.groupBy(home.recipes, (one) => one.kind) : grouped(home.recipes);
  const recipe = h("select", { name: "recipe" }, [...groups].map(([kind, some]) =>
    h("optgroup", { label: KINDS[kind] || kind }, some.map((one) => h("option", { value: one.name }, one.name)))));
  const about = h("p", { class: "hint" });
  const minutes = h("input", { type: "number", name: "minutes", min: "0.1", max: "43200", step: "any", value: home.samples.includes(source) ? 5 : 10, inputmode: "decimal" });
  const size = h("input", { type: "number", name: "size", min: "4", max: "2048", placeholder: String(report.height), inputmode: "numeric" });
  const name = h("input", { type: "text", name: "name", maxlength: "80", autocomplete: "off", spellcheck: "false" });
  const second = h("input", { type: "text", name: "second", autocomplete: "off", spellcheck: "false", placeholder: "/home/me/other-pictures" });
  const pairs = h("div", { class: "pairs" }, field("Second folder", second, "For pix2pix, pictures of equal names; for cyclegan and cut, any."),
    h("button", { type: "button", onclick: makeEdges }, "Draw edges: pairs from these pictures"));
  const line = commandLine("", "Command of this training");
  const start = h("button", { class: "primary big" }, "Start training");
  let first = source;

  const request = () => ({ source: first, second: pairs.hidden ? "" : second.value.trim(), recipe: recipe.value, minutes: minutes.value, size: size.value, name: name.value.trim() });
  let asked = 0;
  async function update() {
    const chosen = home.recipes.find((one) => one.name === recipe.value);
    about.textContent = chosen.summary[0].toUpperCase() + chosen.summary.slice(1) + ".";
    pairs.hidden = chosen.kind !== "translator";
    const number = (asked += 1);
    try {
      const answer = await post("/api/train/command", request());
      if (number !== asked) return;
      line.set(answer.command);
      name.placeholder = answer.name;
      form.removeAttribute("data-wrong");
    } catch (error) {
      if (number === asked) form.setAttribute("data-wrong", error.message);
    }
  }

  async function makeEdges(event) {
    const button = event.target;
    button.disabled = true;
    try {
      const { job, command } = await post("/api/edges", { source, size: size.value });
      line.set(command);
      const made = await finished(job, (done, total) => { button.textContent = total ? `${count(done)} of ${count(total)}` : "Drawing …"; });
      [first, second.value] = [made.first, made.second];
      announce(made.message);
      button.textContent = "Edges are the first folder, the pictures the second";
      await update();
    } catch (error) {
      alarm(error);
      button.textContent = "Draw edges: pairs from these pictures";
      button.disabled = false;
    }
  }

  const form = h("form", { class: "panel sticky", "aria-label": "Training", oninput: update, onsubmit: async (event) => {
    event.preventDefault();
    start.disabled = true;
    try {
      const run = await post("/api/train", request());
      sessionStorage.setItem(`started-${run.id}`, String(Date.now()));
      location.hash = `#/run/${run.id}/watch`;
    } catch (error) {
      start.disabled = false;
      alarm(error);
    }
  } },
  h("h2", {}, "Training"), field("Recipe", recipe), about, pairs,
  h("div", { class: "pair" }, field("Minutes", minutes), field("Size in pixels", size)), field("Name", name), start,
  h("p", { class: "hint" }, "A process of its own: it goes on when this page or the studio is closed."), line);
  update();
  return form;
}

function grouped(recipes) {
  const found = new Map();
  for (const one of recipes) found.set(one.kind, [...(found.get(one.kind) || []), one]);
  return found;
}
