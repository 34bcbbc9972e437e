/* The page of a generator: one picture that sliders change, a map of two axes, a sheet of others. */

const MAP_CELLS = 7, MAP_REACH = 3; // pictures a side; axes run from -3 to 3
const state = { seed: 0, component: 0, label: 0, psi: 1, steps: [] }; // component: the seed that chooses one of a mixture prior
let network, axes, means, prior, base, playing = false;

const count = facts.classes.length;
const shown = () => $("picture");

/** Weights of the classes: 1 for one of them. */
function weightsOf(label) {
  const weights = new Float32Array(count);
  if (count) weights[label] = 1;
  return weights;
}

/** The latent of a seed: standard normal, or of an autoencoder's prior for the class, a mixture of Gaussians (networks/mixture.py). */
function latent(seed, component = seed) {
  const noise = normal(facts.z, seed);
  if (!prior) return noise;
  const size = facts.z, row = count ? state.label : 0, parts = prior.ends.length / Math.max(1, count), chance = random(component)() / 2 ** 32;
  let k = 0;
  while (k < parts - 1 && chance >= prior.ends[row * parts + k]) k++;
  return noise.map((_, i) => {
    let sum = prior.means[(row * parts + k) * size + i];
    for (let j = 0; j <= i; j++) sum += prior.inverses[(k * size + i) * size + j] * noise[j];
    return sum;
  });
}

/** A point of the latent space: a latent, and a move of the style, of a network that has one. */
function point(z) {
  return { z, shift: facts.styled ? new Float32Array(means.length / Math.max(1, count)) : null };
}

/** A point moved along the axes; a normal latent keeps its length, as in limner.apps.editing.axes. */
function moved({ z, shift }, steps) {
  const made = Float32Array.from(shift || z), size = made.length;
  steps.forEach((by, i) => {
    if (by) for (let j = 0; j < size; j++) made[j] += by * axes[i * size + j];
  });
  if (shift) return { z, shift: made };
  if (prior) return { z: made, shift };
  const scale = Math.hypot(...z) / Math.hypot(...made);
  return { z: made.map((value) => value * scale), shift };
}

/** Numbers [h,w,c] of the picture of a point, with weights of the classes. */
function generate({ z, shift }, weights, psi = state.psi) {
  const bend = DISTRIBUTIONS[facts.noise];
  network.input("z").set(facts.noise === "normal" ? z : z.map(bend));
  if (count && !prior) network.input("classes").set(weights);
  if (facts.text) network.input("sentence").set(text.sentence);
  if (facts.styled) {
    const mean = network.input("mean").fill(0);
    const shares = count ? weights : [1];
    shares.forEach((share, k) => {
      if (share) for (let j = 0; j < mean.length; j++) mean[j] += share * means[k * mean.length + j];
    });
    network.input("psi")[0] = psi;
    network.input("shift").set(shift);
  }
  return network.run();
}

function draw(canvas, at, weights) {
  paint(canvas, generate(at, weights), facts.height, facts.width, facts.channels);
}

// ---- drawing at most once a frame, always the last state ------------------------------------------------------------

let waiting = false;
function refresh(map = true) {
  if (map) mapLeft = 0;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw(shown(), moved(base, state.steps), weightsOf(state.label));
    describe();
    if (mapLeft < MAP_CELLS * MAP_CELLS) setTimeout(fillMap);
  });
}

function describe() {
  const name = count ? `, ${facts.classes[state.label]}` : facts.text ? `, ${text.shown}` : "";
  const seed = state.seed === null ? "between two seeds" : `seed ${state.seed}`;
  shown().setAttribute("aria-label", `Generated picture, ${seed}${name}`);
  $("mark").style.left = `${((state.steps[0] + MAP_REACH) / (2 * MAP_REACH)) * 100}%`;
  $("mark").style.top = `${((MAP_REACH - state.steps[1]) / (2 * MAP_REACH)) * 100}%`;
}

/** Fill the map from its middle outward, some pictures at a time. */
let mapLeft = 0;
const cell = document.createElement("canvas");
const order = Array.from({ length: MAP_CELLS * MAP_CELLS }, (_, i) => [i % MAP_CELLS, Math.floor(i / MAP_CELLS)]).sort(
  (a, b) => distance(a) - distance(b),
);
function distance([x, y]) {
  return Math.hypot(x - (MAP_CELLS - 1) / 2, y - (MAP_CELLS - 1) / 2);
}
function fillMap() {
  if (waiting || playing || facts.z < 2) return;
  const context = $("map").getContext("2d"), started = performance.now();
  while (mapLeft < order.length && performance.now() - started < 12) {
    const [x, y] = order[mapLeft++];
    const steps = [...state.steps];
    steps[0] = (((x + 0.5) / MAP_CELLS) * 2 - 1) * MAP_REACH;
    steps[1] = (1 - ((y + 0.5) / MAP_CELLS) * 2) * MAP_REACH;
    draw(cell, moved(base, steps), weightsOf(state.label));
    context.clearRect(x * facts.width, y * facts.height, facts.width, facts.height);
    context.drawImage(cell, x * facts.width, y * facts.height);
  }
  if (mapLeft < order.length) setTimeout(fillMap);
}

// ---- controls --------------------------------------------------------------------------------------------------------

function setSeed(seed) {
  state.seed = state.component = seed >>> 0;
  $("seed").value = state.seed;
  base = point(latent(state.seed));
  state.steps.fill(0);
  showSteps();
  refresh();
}

function setStep(axis, by) {
  state.steps[axis] = Math.max(-MAP_REACH, Math.min(MAP_REACH, by));
  showSteps();
  refresh(axis > 1);
}

function showSteps() {
  document.querySelectorAll("#axes input").forEach((slider, i) => {
    slider.value = state.steps[i];
    slider.nextElementSibling.textContent = state.steps[i].toFixed(2);
  });
}

function makeControls() {
  facts.shares.forEach((share, i) => {
    const label = document.createElement("label"), box = document.createElement("div");
    label.textContent = `Axis ${i + 1}`;
    label.htmlFor = `axis-${i}`;
    label.title = `${(100 * share).toFixed(1)} % of all change`;
    box.className = "slider";
    const slider = Object.assign(document.createElement("input"), {
      type: "range", id: `axis-${i}`, min: -MAP_REACH, max: MAP_REACH, step: 0.05, value: 0,
    });
    slider.addEventListener("input", () => (stop(), setStep(i, Number(slider.value))));
    box.append(slider, document.createElement("output"));
    $("axes").append(label, box);
  });
  facts.classes.forEach((name, i) => $("class").append(new Option(name, i)));
  document.querySelectorAll(".classes").forEach((element) => (element.hidden = !count));
  document.querySelectorAll(".texts").forEach((element) => (element.hidden = !facts.text));
  document.querySelectorAll(".styled").forEach((element) => (element.hidden = !facts.styled));
  document.querySelector(".map").hidden = facts.z < 2;
  $("class").addEventListener("change", () => {
    state.label = Number($("class").value);
    if (prior) stop(), setSeed(state.component); // each class has a prior of its own
    else refresh();
    sheet();
  });
  $("seed").addEventListener("change", () => (stop(), setSeed(Number($("seed").value) || 0)));
  $("psi").addEventListener("input", () => {
    state.psi = Number($("psi").value);
    $("psi").nextElementSibling.textContent = state.psi.toFixed(2);
    refresh();
    later(sheet);
  });
  $("new").addEventListener("click", newPicture);
  $("reset").addEventListener("click", () => (stop(), state.steps.fill(0), showSteps(), refresh()));
  $("save").addEventListener("click", save);
  $("more").addEventListener("click", () => sheet(Math.floor(Math.random() * 2 ** 32)));
  $("savesheet").addEventListener("click", saveSheet);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT/.test(event.target.tagName)) return;
    const act = { n: newPicture, s: save, p: togglePlay }[event.key.toLowerCase()];
    if (act) event.preventDefault(), act();
  });
  if (facts.text) makeText();
  makeMap();
}

function newPicture() {
  stop();
  setSeed(Math.floor(Math.random() * 2 ** 32));
}

function save() {
  const settings = { seed: state.seed, class: count ? facts.classes[state.label] : null, psi: state.psi, axes: state.steps };
  if (facts.text) settings.text = text.shown;
  if (state.seed === null) Object.assign(settings, { z: [...base.z] }, facts.styled && { shift: [...base.shift] });
  savePng(shown(), `${slug}-${state.seed ?? "walk"}.png`, settings);
}

function makeMap() {
  const map = $("map");
  map.width = MAP_CELLS * facts.width;
  map.height = MAP_CELLS * facts.height;
  const follow = (event) => {
    const box = map.getBoundingClientRect();
    stop();
    setStep(0, (((event.clientX - box.left) / box.width) * 2 - 1) * MAP_REACH);
    setStep(1, (1 - ((event.clientY - box.top) / box.height) * 2) * MAP_REACH);
  };
  map.addEventListener("pointerdown", (event) => (map.setPointerCapture(event.pointerId), follow(event)));
  map.addEventListener("pointermove", (event) => event.buttons && follow(event));
  map.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 1], ArrowDown: [1, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    stop();
    setStep(way[0], state.steps[way[0]] + 0.15 * way[1]);
  });
}
