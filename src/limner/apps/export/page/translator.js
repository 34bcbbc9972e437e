/* The page of a translator or restorer: a picture in, a picture out. */

const networks = [];
const state = { direction: 0, side: 0 };
let latest = 0;

/** Pixels of a canvas as numbers [h,w,c] in [-1,1], padded by their last row and column to what the network takes. */
function numbersOf(canvas, height, width) {
  const { width: w, height: h } = canvas, c = facts.inputs;
  const pixels = canvas.getContext("2d").getImageData(0, 0, w, h).data;
  const made = new Float32Array(height * width * c);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at += c) {
      const p = 4 * (Math.min(y, h - 1) * w + Math.min(x, w - 1));
      if (c === 1) {
        made[at] = Math.round((299 * pixels[p] + 587 * pixels[p + 1] + 114 * pixels[p + 2]) / 1000) / 127.5 - 1;
      } else for (let i = 0; i < c; i++) made[at + i] = pixels[p + i] / 127.5 - 1;
    }
  return made;
}

const padded = (size) => Math.max(facts.least, Math.ceil(size / facts.multiple) * facts.multiple);

/** Compute the output of the input canvas; a newer call ends an older one. */
async function translate() {
  const run = ++latest, input = $("input"), network = networks[state.direction], started = performance.now();
  const height = padded(input.height), width = padded(input.width);
  await new Promise((resolve) => setTimeout(resolve)); // an older run ends first
  if (run !== latest) return;
  if (network.height !== height || network.width !== width) {
    network.plan(height, width);
    (network.height = height), (network.width = width);
  }
  network.input("x").set(numbersOf(input, height, width));
  const made = await network.runInPieces((share) => {
    $("progress").value = share;
    $("progress").className = "";
    return run === latest;
  });
  if (!made) return;
  const s = facts.scale;
  show(made, width * s, input.width * s, input.height * s);
  $("progress").className = "done";
  facts.milliseconds = performance.now() - started;
  $("speed").textContent = `${input.width}×${input.height} pixels in ${(facts.milliseconds / 1000).toFixed(2)} s on this device`;
}

/** The upper left part of an output `stride` pixels wide. */
function show(made, stride, width, height) {
  const c = facts.channels, part = new Float32Array(width * height * c);
  for (let y = 0; y < height; y++) part.set(made.subarray(y * stride * c, (y * stride + width) * c), y * width * c);
  paint($("picture"), part, height, width, c);
}

const background = facts.channels === 4 ? null : facts.background;

/** Put an image (anything that a canvas draws) on the input canvas, its longest side at most that chosen. */
let original = null;
function place(image) {
  original = image;
  const input = $("input"), context = input.getContext("2d", { willReadFrequently: true });
  const w = image ? image.width : state.side, h = image ? image.height : state.side;
  const scale = Math.min(1, state.side / Math.max(w, h));
  input.width = Math.max(1, Math.round(w * scale));
  input.height = Math.max(1, Math.round(h * scale));
  context.fillStyle = background || "#fff";
  if (background || !image) context.fillRect(0, 0, input.width, input.height);
  context.imageSmoothingQuality = "high";
  if (image) context.drawImage(image, 0, 0, input.width, input.height);
  forget();
  for (const canvas of [input, $("picture")]) canvas.classList.toggle("pixels", Math.max(input.width, input.height) <= 160);
  translate();
}

async function open(file) {
  try {
    place(await createImageBitmap(file));
    $("status").textContent = "";
  } catch {
    $("status").textContent = `${file.name || "This"} is no picture that the browser can read.`;
  }
}

function makeControls() {
  const words = { a2b: "first to second kind", b2a: "second to first kind" };
  facts.names.forEach((name, i) => $("direction").append(new Option(words[name] || name, i)));
  document.querySelector(".directions").hidden = facts.names.length < 2;
  const least = facts.restorer ? 512 : facts.side; // a restorer is trained on small crops of large pictures
  const sides = facts.programs.some((p) => p.fixed) ? [facts.side] : [1, 2, 4, 8].map((k) => (k * least) / facts.scale).filter((s, i) => !i || s <= 2048);
  sides.forEach((side) => $("side").append(new Option(`${side} pixels`, side)));
  state.side = sides[0];
  document.querySelector(".sizes").hidden = sides.length < 2;
  document.querySelectorAll(".brush").forEach((element) => (element.hidden = facts.restorer));
  $("side").addEventListener("change", () => ((state.side = Number($("side").value)), place(original)));
  $("direction").addEventListener("change", () => ((state.direction = Number($("direction").value)), translate()));
  $("file").addEventListener("change", () => $("file").files[0] && open($("file").files[0]));
  $("blank").addEventListener("click", () => place(null));
  $("save").addEventListener("click", save);
  addEventListener("dragover", (event) => (event.preventDefault(), document.querySelector(".drop").classList.add("over")));
  addEventListener("dragleave", () => document.querySelector(".drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.querySelector(".drop").classList.remove("over");
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
    if (file) open(file);
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey && event.key === "z") return undo();
    if (!/INPUT|SELECT/.test(event.target.tagName) && !event.ctrlKey && !event.metaKey && event.key.toLowerCase() === "s") save();
  });
}

function save() {
  savePng($("picture"), `${slug}-${facts.names[state.direction]}.png`, { direction: facts.names[state.direction] });
}
