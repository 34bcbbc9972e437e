// Places of the page by the address after #: "/" all runs, "/new?source=..." before a training, "/run/ID/TAB" a run.

import { alarm, h } from "./dom.js";

let leave = () => {};
let last = "";

async function show() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  const fields = Object.fromEntries(new URLSearchParams(query));
  const view = document.getElementById("view");
  if (path === "view") { // the skip link
    view.focus();
    return;
  }
  const place = path + query;
  if (place === last) return;
  last = place;
  leave();
  leave = () => {};
  view.replaceChildren();
  let gone = false;
  try {
    const module = parts[0] === "run" ? await import("./run.js") : parts[0] === "new" ? await import("./dataset.js") : await import("./home.js");
    if (place !== last) return;
    const stop = await module.show(view, { parts: parts.slice(1), fields, gone: () => gone });
    leave = () => { gone = true; stop?.(); };
    if (place !== last) leave();
  } catch (error) {
    alarm(error);
    view.append(h("section", { class: "notice" }, h("h1", {}, "This place cannot be shown"), h("p", {}, error.message), h("a", { href: "#/" }, "All runs")));
  }
  window.scrollTo(0, 0);
  if (document.activeElement === document.body) view.focus({ preventScroll: true });
}

export function crumbs(...links) {
  document.getElementById("crumbs").replaceChildren(...links.map(([text, href]) =>
    h("span", {}, href ? h("a", { href }, text) : h("span", { "aria-current": "page" }, text))));
  document.title = `${links.map(([text]) => text).reverse().concat("Limner studio").filter(Boolean).join(" · ")}`;
}

addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => alarm(event.reason));
show();
