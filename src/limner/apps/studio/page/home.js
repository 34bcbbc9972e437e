// All runs, and where a training begins: a folder that is named or dropped, or a sample.

import { get, post, upload } from "./api.js";
import { alarm, announce, clipped, count, duration, h, plural, uniqueId } from "./dom.js";
import { crumbs } from "./main.js";
import { sprite } from "./sprite.js";

const SAMPLES = {
  fashion: ["Fashion", "10,000 gray pictures of clothes, 28 × 28, ten classes"],
  emoji: ["Emoji", "3,786 color pictures with transparency, 64 × 64, ten categories"],
};
const TYPES = /\.(png|jpe?g|webp|gif|bmp|tiff?|avif|zip|csv|json|npz|npy)$/i;

export async function show(view, { gone }) {
  crumbs(["Runs"]);
  const runs = h("section", { "aria-label": "Runs" });
  view.append(begin(), runs);
  let timer;
  const refresh = async () => {
    try {
      const home = await get("/api/home");
      if (gone()) return;
      list(runs, home);
    } catch (error) {
      alarm(error);
    }
    if (!gone()) timer = setTimeout(refresh, document.hidden ? 10000 : 3000);
  };
  await refresh();
  return () => clearTimeout(timer);
}

function begin() {
  const input = h("input", { type: "text", name: "source", placeholder: "/home/me/pictures", autocomplete: "off", spellcheck: "false", enterkeyhint: "go" });
  const options = h("datalist", { id: uniqueId("paths") });
  input.setAttribute("list", options.id);
  input.id = uniqueId("path");
  input.addEventListener("input", async () => {
    try {
      const found = await get(`/api/complete?text=${encodeURIComponent(input.value)}`);
      options.replaceChildren(...found.map((value) => h("option", { value })));
    } catch {
      // only suggestions are missing
    }
  });
  const form = h("form", { class: "path", onsubmit: (event) => { event.preventDefault(); open(input.value.trim()); } },
    h("label", { for: input.id }, "Folder on this computer"), h("div", { class: "joined" }, input, options, h("button", { class: "primary" }, "Look inside")));
  const note = h("p", { class: "drop-note", "aria-live": "polite" });
  const zone = h("div", { class: "dropzone" },
    h("h2", {}, "Your pictures"), h("p", { class: "lead" }, "Drop a folder here, or name one. Folders inside it become classes."), form, note);
  dropping(zone, note);
  return h("section", { class: "begin" },
    h("div", { class: "hero" }, h("h1", {}, "Train a model on your own pictures"),
      h("p", { class: "lead" }, "On this computer, with nothing leaving it. Watch it learn, then explore what it knows.")),
    h("div", { class: "starts" }, zone, h("div", { class: "samples" }, Object.entries(SAMPLES).map(([name, words]) => sample(name, ...words)))));
}

const open = (source) => { if (source) location.hash = `#/new?source=${encodeURIComponent(source)}`; };

function sample(name, title, text) {
  const picture = h("div", { class: "sample-picture" });
  inspected(name).then(({ id, report }) => picture.append(sprite(`/api/data/${id}/sheet.png`, report.columns, Math.min(24, report.thumbnails)))).catch(alarm);
  return h("a", { class: "sample card", href: `#/new?source=${name}` }, picture,
    h("div", {}, h("h2", {}, title), h("p", {}, text), h("span", { class: "go", "aria-hidden": "true" }, "Try this sample")));
}

export async function inspected(source, size, progress = () => {}) {
  const { id } = await post("/api/data", { source, size });
  for (;;) {
    const report = await get(`/api/data/${id}`);
    if (report.state === "ready") return { id, report };
    if (report.state === "failed") throw new Error(report.error);
    progress(report.done, report.total);
  }
}

// ---- dropping a folder ----

function dropping(zone, note) {
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    try {
      await keep(entries, note);
    } catch (error) {
      alarm(error);
      note.textContent = "";
    }
  });
}

async function keep(entries, note) {
  note.textContent = "Reading names …";
  const single = entries.length === 1 && entries[0].isDirectory;
  const files = (await Promise.all(entries.map((entry) => listed(entry, "")))).flat().filter(([path]) => TYPES.test(path));
  if (!files.length) throw new Error("No picture was dropped: drop a folder of pictures or a zip.");
  const drop = await post("/api/drops", { name: single ? entries[0].name : "pictures" });
  let done = 0;
  const queue = [...files];
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [path, entry] = next;
      const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
      const name = single ? path.split("/").slice(1).join("/") : path;
      await upload(`/api/drops/${drop.id}/files?name=${encodeURIComponent(name)}`, file);
      done += 1;
      if (done % 20 === 0 || done === files.length) note.textContent = `${count(done)} of ${plural(files.length, "file")} copied`;
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  const zip = files.length === 1 && /\.(zip|npz|npy)$/i.test(files[0][0]);
  announce(`${plural(files.length, "file")} copied.`);
  open(zip ? `${drop.path}/${files[0][0]}` : drop.path);
}

async function listed(entry, before) {
  const path = before ? `${before}/${entry.name}` : entry.name;
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [[path, entry]];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((one) => listed(one, path)))).flat();
}

// ---- runs ----

const shown = new WeakMap(); // section -> what it shows, as text: an unchanged list is left alone, and with it the focus

function list(section, home) {
  const text = JSON.stringify(home.runs.map((run) => [run.id, run.status, run.images, run.sheets.length]));
  if (shown.get(section) === text) return;
  shown.set(section, text);
  const focused = document.activeElement?.closest?.("a.run")?.getAttribute("href");
  section.replaceChildren(
    h("div", { class: "section-head" }, h("h2", {}, "Runs"), h("code", { class: "path-of" }, home.home)),
    home.runs.length ? h("ul", { class: "runs" }, home.runs.map(card)) : h("p", { class: "empty" }, "Nothing has been trained here yet. Choose a sample above: its first sheet appears within seconds."));
  if (focused) [...section.querySelectorAll("a.run")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
}

export function statusPill(status) {
  return h("span", { class: `pill ${status}` }, status);
}

function card(run) {
  const newest = run.sheets.at(-1);
  const part = run.budget ? Math.min(1, run.images / run.budget) : 0;
  const facts = [run.kind, run.recipe, run.size ? `${run.size[0]} × ${run.size[1]}` : ""].filter(Boolean).join(" · ");
  const state = run.status === "training" && run.left ? `${duration(run.left)} left` : run.budget ? `${count(run.images)} images seen` : run.message;
  return h("li", {}, h("a", { class: "run card", href: `#/run/${run.id}` },
    h("div", { class: "run-picture" }, newest ? h("img", { src: `/api/runs/${run.id}/sheets/${newest.images}.png?v=${newest.version}`, alt: "", loading: "lazy" }) : h("span", { class: "blank" })),
    h("div", { class: "run-text" }, h("div", { class: "run-head" }, h("h3", {}, clipped(run.name)), statusPill(run.status)),
      h("p", { class: "muted" }, facts), h("p", { class: "muted" }, clipped(state || "", 80))),
    h("div", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${100 * part}%` } }))));
}
