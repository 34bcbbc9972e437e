// One run: its head, and its tabs.

import { get, post } from "./api.js";
import { alarm, clipped, h } from "./dom.js";
import { statusPill } from "./home.js";
import { crumbs } from "./main.js";

const TABS = {
  watch: ["Watch", () => true, "./watch.js"],
  explore: ["Explore", (run) => draws(run), "./explore.js"],
  map: ["Map", (run) => draws(run), "./map.js"],
  draw: ["Draw", (run) => run.usable && run.kind === "translator", "./draw.js"],
  pictures: ["Your pictures", (run) => run.usable && run.kind !== "generator", "./pictures.js"],
  photo: ["Your photo", (run) => draws(run) && run.kind === "generator", "./photo.js"],
  export: ["Export", (run, features) => run.usable && (features.onnx || features.html), "./exports.js"],
};

const draws = (run) => run.usable && ["generator", "autoencoder"].includes(run.kind);

export async function show(view, { parts, gone }) {
  const [id, wanted = "watch"] = parts;
  const [{ run }, { features }] = await Promise.all([get(`/api/runs/${id}`), get("/api/home")]);
  const tab = TABS[wanted]?.[1](run, features) ? wanted : "watch";
  crumbs(["Runs", "#/"], [clipped(run.name, 28)]);
  const pill = h("span", {});
  const actions = h("div", { class: "actions" });
  const tabs = h("nav", { class: "tabs", "aria-label": "Views of this run" });
  const head = h("div", { class: "run-title" }, h("h1", {}, clipped(run.name, 60)), pill, actions);
  const body = h("div", { class: "tab-body" });
  view.append(head, tabs, body);

  let shown = "";
  const update = (now) => {
    const text = [now.status, now.usable, now.resumable].join();
    if (text === shown) return;
    shown = text;
    pill.replaceChildren(statusPill(now.status));
    tabs.replaceChildren(...Object.entries(TABS).filter(([, [, fits]]) => fits(now, features)).map(([name, [title]]) =>
      h("a", { href: `#/run/${id}/${name}`, "aria-current": name === tab ? "page" : null }, title)));
    actions.replaceChildren(...buttons(now));
  };
  const buttons = (now) => {
    const made = [];
    if (["training", "starting"].includes(now.status)) made.push(action("Pause", `/api/runs/${id}/pause`, {}, "Writes a checkpoint and ends the process; resuming gives the same weights bit for bit."));
    if (["paused", "stopped"].includes(now.status) || (now.status === "failed" && now.command)) made.push(action("Resume", `/api/runs/${id}/resume`, {}, "", "primary"));
    if (now.status === "finished" && now.resumable) {
      const more = h("input", { type: "text", value: "5m", size: "5", "aria-label": "How much longer: 5m, 1h, or 50k images" });
      made.push(h("span", { class: "joined" }, more, action("Train longer", `/api/runs/${id}/resume`, () => ({ more: more.value }))));
    }
    return made;
  };
  function action(text, path, fields, title = "", kind = "") {
    return h("button", { type: "button", class: kind, title, onclick: async (event) => {
      event.target.disabled = true;
      try {
        await post(path, typeof fields === "function" ? fields() : fields);
      } catch (error) {
        event.target.disabled = false;
        alarm(error);
      }
    } }, text);
  }

  update(run);
  const module = await import(TABS[tab][2]);
  let timer;
  const listeners = [];
  const stop = await module.show(body, { id, run, features, gone, onrun: (listener) => listeners.push(listener) });
  if (tab !== "watch") { // the view of the training asks by itself
    const poll = async () => {
      try {
        const { run: now } = await get(`/api/runs/${id}?since=1000000000`);
        update(now);
        listeners.forEach((listener) => listener(now));
      } catch {
        // the studio may be starting again
      }
      if (!gone()) timer = setTimeout(poll, document.hidden ? 15000 : 4000);
    };
    timer = setTimeout(poll, 4000);
  } else module.watchers(update);
  return () => { clearTimeout(timer); stop?.(); };
}
