// The page of a study: shows one question at a time and sends each answer. Pictures come as raw RGBA pixels and are loaded ahead.
"use strict";

const KEPT = "limner-study-rater"; // the rater's id, in localStorage
const LARGEST = 336; // CSS pixels of a side to which small pictures are enlarged
const $ = (id) => document.getElementById(id);
const token = document.querySelector("meta[name=limner-token]").content;

let state = null; // of the server, for the present rater
let shown = 0; // performance.now() when the present pictures were painted
let accepting = false; // whether an answer is taken
let retry = null; // what the button "Try again" does
const loading = new Map(); // picture id -> promise of its pixels

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json", "x-limner-token": token },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, { cache: "no-store", ...options });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(content.error?.message ?? `The server answered ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }
  return content;
}

function load(id) {
  if (!loading.has(id)) {
    const pixels = fetch(`/pictures/${id}`, { cache: "no-store" }).then((answer) => {
      if (!answer.ok) throw new Error(`A picture could not be loaded (${answer.status}).`);
      return answer.arrayBuffer();
    });
    pixels.catch(() => loading.delete(id)); // the next try asks again
    loading.set(id, pixels);
  }
  return loading.get(id);
}

function only(section) {
  for (const id of ["welcome", "judge", "done"]) $(id).hidden = id !== section;
}

function problem(error, again) {
  accepting = false;
  const known = error.status !== undefined;
  $("problem-text").textContent = known ? error.message : "The server does not answer. Your answers so far are saved.";
  $("problem").hidden = false;
  retry = again;
  $("retry").focus();
}

async function attempt(action) {
  $("problem").hidden = true;
  try {
    await action();
  } catch (error) {
    problem(error, () => attempt(action));
  }
}

function welcome() {
  state = null;
  $("who").hidden = true;
  only("welcome");
  $("given").focus({ preventScroll: true });
}

async function begin(name) {
  const found = await ask("/raters", { name });
  localStorage.setItem(KEPT, found.rater);
  await show(found);
}

async function resume() {
  const rater = localStorage.getItem(KEPT);
  if (!rater || !/^[0-9a-f]{32}$/.test(rater)) return welcome();
  try {
    await show(await ask(`/raters/${rater}`));
  } catch (error) {
    if (error.status !== 404) throw error;
    localStorage.removeItem(KEPT); // of another study at this address
    welcome();
  }
}

async function show(found) {
  state = found;
  $("name").textContent = found.name || "Anonymous rater";
  $("who").hidden = false;
  if (found.phase === "done") return finish();
  accepting = false;
  $("first").disabled = $("second").disabled = true;
  const buffers = await Promise.all(found.pictures.map(load));
  const canvases = buffers.map((buffer, i) => draw(buffer, found, i));
  for (const id of loading.keys()) {
    if (!found.pictures.includes(id) && !found.next.includes(id)) loading.delete(id);
  }
  found.next.forEach((id) => load(id).catch(() => {})); // an error shows when its turn comes
  only("judge");
  $("pictures").replaceChildren(...canvases);
  fit();
  $("feedback").hidden = true;
  $("choices").hidden = false;
  const practice = found.phase === "practice";
  $("count").textContent = `${practice ? "Practice" : "Question"} ${found.number} of ${found.total}`;
  $("bar").max = found.total;
  $("bar").value = found.number - 1;
  $("question").textContent = found.pairs ? "Which picture looks more real?" : "Is this picture real or generated?";
  $("first-label").textContent = found.pairs ? "Left" : "Real";
  $("second-label").textContent = found.pairs ? "Right" : "Generated";
  $("status").textContent = $("count").textContent;
  await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
  shown = performance.now();
  $("first").disabled = $("second").disabled = false;
  accepting = true;
}

function draw(buffer, { width, height, pairs }, i) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", pairs ? ["Left picture", "Right picture"][i] : "Picture to judge");
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(buffer), width, height), 0, 0);
  return canvas;
}

function fit() { // enlarges small pictures, by a whole number where there is room for twice the size
  if (!state || !state.width) return;
  const box = $("pictures");
  const style = getComputedStyle(box);
  const count = box.children.length || 1;
  const gaps = (count - 1) * (parseFloat(style.columnGap) || 0);
  const room = (box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - gaps) / count;
  const { width, height } = state;
  const tall = Math.max(160, window.innerHeight * 0.6);
  const ratio = Math.min(room / width, tall / height, Math.max(1, LARGEST / Math.max(width, height)));
  const whole = Math.floor(ratio * devicePixelRatio) / devicePixelRatio; // each pixel of the picture as equal squares
  const size = whole >= 2 ? whole : ratio < 1 || ratio >= 1.5 ? ratio : 1;
  for (const canvas of box.children) {
    canvas.style.width = `${width * size}px`;
    canvas.style.height = `${height * size}px`;
    canvas.style.imageRendering = whole >= 2 || size === 1 ? "pixelated" : "auto";
  }
}

async function choose(choice) {
  if (!accepting || !state) return;
  accepting = false;
  $("first").disabled = $("second").disabled = true;
  const given = { trial: state.trial, choice, seconds: (performance.now() - shown) / 1000 };
  await attempt(() => send(given));
}

async function send(given) {
  let answer;
  try {
    answer = await ask(`/raters/${state.rater}/answers`, given);
  } catch (error) {
    if (error.status === 403) return location.reload(); // the server was started anew: the page's token is old
    if (error.status !== 409) throw error;
    return show(await ask(`/raters/${state.rater}`)); // it had arrived, or another tab was quicker
  }
  if (answer.feedback === null) return show(answer.state);
  const truth = answer.feedback.truth === 0 ? "real" : "generated";
  $("verdict").textContent = `${answer.feedback.correct ? "Right" : "Wrong"}: this picture is ${truth}.`;
  $("verdict").className = answer.feedback.correct ? "good" : "bad";
  $("status").textContent = $("verdict").textContent;
  $("choices").hidden = true;
  $("feedback").hidden = false;
  $("bar").value = state.number;
  $("next").onclick = () => attempt(() => show(answer.state));
  $("next").focus();
}

function finish() {
  only("done");
  const { judged, correct } = state;
  $("score").textContent = correct === null
    ? `You compared ${judged} pairs.`
    : `You were right about ${correct} of ${judged} pictures, ${Math.round((100 * correct) / Math.max(1, judged))} %; guessing gives 50 %.`;
  $("status").textContent = `Thank you. ${$("score").textContent}`;
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || $("judge").hidden) return;
  const key = event.key.toLowerCase();
  const choice = key === "f" || key === "arrowleft" ? 0 : key === "j" || key === "arrowright" ? 1 : null;
  if (choice === null) return;
  event.preventDefault();
  if ($("feedback").hidden) choose(choice);
});
$("first").addEventListener("click", () => choose(0));
$("second").addEventListener("click", () => choose(1));
$("retry").addEventListener("click", () => retry && retry());
$("start").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => begin($("given").value));
});
$("change").addEventListener("click", () => {
  localStorage.removeItem(KEPT);
  $("given").value = "";
  $("problem").hidden = true;
  welcome();
});
window.addEventListener("resize", fit);

attempt(async () => {
  const about = await ask("/study");
  $("welcome-title").textContent = about.pairs ? "Which picture looks more real?" : "Real or generated?";
  $("task").textContent = about.pairs
    ? `You will see ${about.questions} pairs of pictures. Choose the one of each pair that looks more real to you.`
    : `You will see ${about.questions} pictures, one by one. Half of them are real, the others were generated by a computer. `
      + `Say which is which. It starts with ${about.practice} pictures for practice, where you learn the answers.`;
  await resume();
});
