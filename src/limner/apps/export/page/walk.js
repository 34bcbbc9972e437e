/* The sheet of other pictures, the walk, and the start of the page. */

const SHEET = 24, SECONDS = 2.5; // pictures of the sheet; seconds from one picture of a walk to the next

let sheetSeed = 1, delayed, current = null;
function later(work) {
  clearTimeout(delayed);
  delayed = setTimeout(work, 150);
}

/** Fill the sheet with the pictures of consecutive seeds; a click shows one above. */
let sheetRun = 0;
function sheet(first = sheetSeed) {
  sheetSeed = first >>> 0;
  const run = ++sheetRun, cells = [...$("grid").children];
  const step = (i) => {
    if (run !== sheetRun || i === SHEET) return;
    const seed = (sheetSeed + i) >>> 0;
    cells[i].dataset.seed = seed;
    cells[i].setAttribute("aria-label", `Show the picture of seed ${seed}`);
    draw(cells[i].firstChild, point(latent(seed)), weightsOf(state.label));
    setTimeout(step, 0, i + 1);
  };
  step(0);
}

function makeSheet() {
  for (let i = 0; i < SHEET; i++) {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    canvas.className = facts.channels === 4 ? "pixels alpha" : "pixels";
    canvas.width = facts.width;
    canvas.height = facts.height;
    button.append(canvas);
    button.addEventListener("click", () => {
      stop();
      setSeed(Number(button.dataset.seed));
      shown().scrollIntoView({ block: "nearest", behavior: reducedMotion.matches ? "auto" : "smooth" });
    });
    $("grid").append(button);
  }
}

function saveSheet() {
  const columns = 6, gap = 2, canvas = document.createElement("canvas");
  canvas.width = columns * (facts.width + gap) - gap;
  canvas.height = (SHEET / columns) * (facts.height + gap) - gap;
  const context = canvas.getContext("2d");
  [...$("grid").children].forEach((button, i) =>
    context.drawImage(button.firstChild, (i % columns) * (facts.width + gap), Math.floor(i / columns) * (facts.height + gap)));
  savePng(canvas, `${slug}-sheet-${sheetSeed}.png`, { first_seed: sheetSeed, class: count ? facts.classes[state.label] : null, psi: state.psi, ...(facts.text && { text: text.shown }) });
}

// ---- the walk --------------------------------------------------------------------------------------------------------

function togglePlay() {
  playing ? stop() : play();
}

function stop() {
  if (!playing) return;
  playing = false;
  $("play").setAttribute("aria-pressed", "false");
  $("play").textContent = "Play";
  base = current; // between two seeds
  state.seed = null;
  state.steps.fill(0);
  showSteps();
  $("seed").value = "";
  refresh();
}

/** Walk from the picture shown to that of a new seed, and on from there; where motion is to be reduced, one picture after another. */
function play() {
  playing = true;
  $("play").setAttribute("aria-pressed", "true");
  $("play").textContent = "Stop";
  const next = () => point(latent(Math.floor(Math.random() * 2 ** 32), state.component)); // between two components there are no pictures
  let from = moved(base, state.steps), to = next();
  let started = performance.now();
  current = from;
  const frame = (now) => {
    if (!playing) return;
    let t = Math.max(0, now - started) / (1000 * SECONDS);
    if (t >= 1) {
      from = current = to;
      to = next();
      started = now;
      t = 0;
    }
    if (!reducedMotion.matches) current = { z: between(from.z, to.z, t), shift: from.shift && from.shift.map((value, i) => value + t * (to.shift[i] - value)) };
    draw(shown(), current, weightsOf(state.label));
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

// ---- start -----------------------------------------------------------------------------------------------------------

/** Milliseconds a picture, the fastest of some, or of five in a row where a clock of 0.1 ms is too coarse for one. */
function measure() {
  let best = Infinity;
  const at = point(latent(0)), weights = weightsOf(0);
  for (let i = 0, began = performance.now(); i < 20 && performance.now() - began < 400; i++) {
    const started = performance.now();
    generate(at, weights);
    const once = performance.now() - started;
    for (let j = 1; j < 5; j++) generate(at, weights);
    best = Math.min(best, once > 1 ? once : Infinity, (performance.now() - started) / 5);
  }
  return best;
}

async function start() {
  network = await Network.load(block("wasm"), block("words-0"), block("blob-0"), facts.programs[0]);
  network.plan();
  axes = floatsOf(facts.axes);
  prior = facts.prior && Object.fromEntries(Object.entries(facts.prior).map(([name, text]) => [name, floatsOf(text)]));
  means = facts.styled ? floatsOf(facts.means) : null;
  state.steps = facts.shares.map(() => 0);
  document.body.className = "generator";
  document.querySelector(".desk").hidden = false;
  if (facts.channels === 4) [shown(), $("map")].forEach((canvas) => canvas.classList.add("alpha"));
  makeControls();
  makeSheet();
  $("play").addEventListener("click", togglePlay);
  setSeed(0);
  draw(shown(), base, weightsOf(0));
  performance.mark("first-picture");
  $("status").textContent = "";
  const rows = [...facts.card];
  // the example's latent is what the network takes: it is not bent again
  const bend = facts.noise, psi = state.psi;
  facts.noise = "normal";
  const error = difference(generate(point(floatsOf(facts.check.z)), weightsOf(count - 1), 1), facts.check);
  facts.noise = bend;
  rows.push(["Difference from PyTorch", `${error.toExponential(1)} at most, of numbers from -1 to 1 (computed here, just now)`]);
  showCard(rows);
  facts.error = error;
  $("summary").textContent = facts.card[0][1] + (count ? `, ${count} classes` : "") + ". Runs in this page, without a network.";
  sheet();
  setTimeout(() => {
    facts.milliseconds = measure();
    $("speed").textContent = `${Number(facts.milliseconds.toPrecision(2))} ms a picture, ${Number((1000 / facts.milliseconds).toPrecision(2)).toLocaleString("en")} a second on this device`;
  }, 600);
}

start().catch(fail);
