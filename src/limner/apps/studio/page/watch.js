// A training as it goes: the sheet of fixed latents, its history, curves, the doctor's findings, time left.

import { get } from "./api.js";
import { commandLine } from "./command.js";
import { charts, columnName } from "./curves.js";
import { announce, count, duration, h, paintRange, plural, short } from "./dom.js";

let tell = () => {};
export const watchers = (listener) => { tell = listener; };

export async function show(body, { id, gone }) {
  const image = h("img", { class: "sheet", alt: "Sheet of fixed inputs" });
  const blank = h("div", { class: "sheet-blank" }, h("p", { class: "lead" }, "The first sheet appears as soon as the pictures are read."), h("p", { class: "muted output-line" }));
  const caption = h("output", { class: "caption" });
  const range = h("input", { type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": "Sheet of the history" });
  const play = h("button", { type: "button", class: "quiet" }, "Replay");
  const live = h("button", { type: "button", class: "quiet", "aria-pressed": "true" }, "Live");
  const scrubber = h("div", { class: "scrubber" }, play, range, live, caption);
  const progress = h("div", { class: "progress" });
  const findings = h("section", { class: "panel findings", "aria-label": "The doctor" });
  const curves = h("section", { class: "curves", "aria-label": "Curves" });
  const line = commandLine("", "Command of this training");
  const output = h("pre", { tabindex: "0" });
  const details = h("details", { class: "panel", ontoggle: () => details.open && readOutput() }, h("summary", {}, "What the training prints"), output);
  body.append(h("div", { class: "two wide-left" },
    h("section", { class: "panel stage", "aria-label": "Sheet of samples" }, h("div", { class: "sheet-box" }, image, blank), scrubber),
    h("div", { class: "side" }, h("section", { class: "panel", "aria-label": "Progress" }, progress), findings)),
  curves, line, details);

  const state = { sheets: [], follows: true, entries: [], generation: -1, timer: 0, replay: 0, first: true };
  const plots = charts(curves);

  function showSheet(index) {
    const sheet = state.sheets[index];
    if (!sheet) return;
    const address = `/api/runs/${id}/sheets/${sheet.images}.png?v=${sheet.version}`;
    if (image.getAttribute("src") !== address) image.src = address;
    image.hidden = false;
    blank.hidden = true;
    caption.textContent = `${count(sheet.images)} images seen`;
    image.alt = `Sheet of fixed inputs after ${count(sheet.images)} images`;
    range.value = index;
    paintRange(range);
    range.setAttribute("aria-valuetext", caption.textContent);
    plots.mark(sheet.images);
    for (const next of [state.sheets[index + 1], state.sheets[index - 1]]) {
      if (next) new Image().src = `/api/runs/${id}/sheets/${next.images}.png?v=${next.version}`; // ready when the scrubber comes
    }
  }
  image.addEventListener("load", () => {
    if (!state.first) return;
    state.first = false;
    const started = Number(sessionStorage.getItem(`started-${id}`));
    sessionStorage.removeItem(`started-${id}`);
    document.documentElement.dataset.firstSheet = started ? String(Date.now() - started) : "";
    announce("The first sheet is shown.");
  });
  const follow = (on) => { state.follows = on; live.setAttribute("aria-pressed", String(on)); if (on) showSheet(state.sheets.length - 1); };
  range.addEventListener("input", () => { stopReplay(); follow(Number(range.value) === state.sheets.length - 1); showSheet(Number(range.value)); });
  live.addEventListener("click", () => { stopReplay(); follow(true); });
  const stopReplay = () => { clearInterval(state.replay); state.replay = 0; play.textContent = "Replay"; };
  play.addEventListener("click", () => {
    if (state.replay) { stopReplay(); return; }
    follow(false);
    let at = 0;
    play.textContent = "Stop";
    showSheet(0);
    state.replay = setInterval(() => {
      at += 1;
      showSheet(at);
      if (at >= state.sheets.length - 1) { stopReplay(); follow(true); }
    }, 400);
  });
  async function readOutput() {
    output.textContent = (await get(`/api/runs/${id}/output`)).text || "This run was started elsewhere: its output is there.";
    output.scrollTop = output.scrollHeight;
  }

  async function poll() {
    let pause = 1000;
    try {
      const { run, log } = await get(`/api/runs/${id}?since=${state.entries.length}&generation=${state.generation}`);
      if (gone()) return;
      if (log.generation !== state.generation || log.first === 0) state.entries = [];
      state.generation = log.generation;
      state.entries.push(...log.entries);
      if (run.sheets.length !== state.sheets.length || run.sheets.at(-1)?.version !== state.sheets.at(-1)?.version) {
        state.sheets = run.sheets;
        range.max = Math.max(0, state.sheets.length - 1);
        if (state.follows) showSheet(state.sheets.length - 1);
      }
      scrubber.hidden = !state.sheets.length;
      image.hidden = !state.sheets.length;
      blank.hidden = Boolean(state.sheets.length);
      blank.querySelector(".output-line").textContent = run.message;
      blank.firstChild.textContent = run.status === "failed" || run.status === "stopped" ? "The training ended before its first sheet." : "The first sheet appears as soon as the pictures are read.";
      if (run.status === "failed" && !details.open) details.open = true;
      showProgress(progress, run);
      showFindings(findings, run, state.entries);
      if (log.entries.length) plots.update(state.entries, run);
      line.set(Array.isArray(run.command) ? run.command.map(quoted).join(" ") : "");
      if (details.open && ["training", "starting"].includes(run.status)) await readOutput();
      tell(run);
      pause = state.sheets.length ? (["training", "starting"].includes(run.status) ? 1000 : 4000) : 250;
    } catch {
      pause = 2000; // the studio may be starting again
    }
    if (!gone()) state.timer = setTimeout(poll, document.hidden ? 10000 : pause);
  }
  const soon = () => { if (!document.hidden) { clearTimeout(state.timer); poll(); } };
  document.addEventListener("visibilitychange", soon);
  await poll();
  return () => { clearTimeout(state.timer); stopReplay(); document.removeEventListener("visibilitychange", soon); tell = () => {}; };
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\"'\"'")}'`);

function showProgress(place, run) {
  const part = run.budget ? Math.min(1, run.images / run.budget) : 0;
  const big = run.status === "training" ? (run.left ? duration(run.left) : "…") : { finished: "Finished", paused: "Paused", failed: "Failed", stopped: "Stopped", starting: "Starting" }[run.status];
  const facts = [
    ["Images seen", run.budget ? `${count(run.images)} of ${count(run.budget)}` : count(run.images)], ["Time spent", duration(run.seconds)],
    ["Speed", run.speed ? `${count(Math.round(run.speed))} images/s` : "–"], ["Recipe", run.recipe || "auto"],
    ["Pictures", run.count ? `${count(run.count)}${run.size ? `, ${run.size[0]} × ${run.size[1]}` : ""}` : run.data],
    ...Object.entries(run.figures).filter(([name]) => name !== "at_images").slice(0, 3).map(([name, value]) => [columnName(name), typeof value === "number" ? short(value) : String(value)]),
  ];
  const text = JSON.stringify([big, facts, run.message]);
  if (place.dataset.shown === text) return;
  place.dataset.shown = text;
  place.replaceChildren(
    h("p", { class: "big-number" }, big, run.status === "training" ? h("small", {}, " left") : null),
    h("div", { class: "bar thick", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * part), "aria-label": "Share of the budget" }, h("span", { style: { width: `${100 * part}%` } })),
    run.message && run.status !== "finished" ? h("p", { class: run.status === "failed" ? "wrong" : "muted small" }, run.message) : "",
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function showFindings(place, run, entries) {
  const checks = entries.filter((entry) => "variety" in entry).length;
  const text = JSON.stringify([run.findings, checks]);
  if (place.dataset.shown === text) return;
  const before = place.dataset.found;
  place.dataset.shown = text;
  place.dataset.found = String(run.findings.length);
  if (before !== undefined && Number(before) < run.findings.length) announce(`The doctor: ${run.findings.at(-1).message}`);
  place.replaceChildren(h("h2", {}, "The doctor"), run.findings.length
    ? h("ul", {}, run.findings.slice().reverse().map((one) => h("li", {}, h("strong", {}, one.message[0].toUpperCase() + one.message.slice(1)), h("span", { class: "muted" }, ` at ${count(one.images)} images. `), one.action ? `Changed ${one.action}.` : one.advice)))
    : h("p", { class: "muted" }, checks ? `Nothing is wrong: ${plural(checks, "check")}, no finding.` : "The first check comes soon."));
}
