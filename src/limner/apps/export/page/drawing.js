/* Drawing on the input canvas, and the start of a translator's page. */

const steps = []; // the canvas before each stroke
const MAX_UNDO = 20;

function forget() {
  steps.length = 0;
  $("undo").disabled = true;
}

function undo() {
  const before = steps.pop();
  if (!before) return;
  $("input").getContext("2d").putImageData(before, 0, 0);
  $("undo").disabled = !steps.length;
  translate();
}

function makeBrush() {
  const canvas = $("input");
  let at = null;
  const position = (event) => {
    const box = canvas.getBoundingClientRect(); // the picture may be letterboxed in its box (object-fit: contain)
    const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
    return [
      (event.clientX - box.left - (box.width - canvas.width * scale) / 2) / scale,
      (event.clientY - box.top - (box.height - canvas.height * scale) / 2) / scale,
    ];
  };
  const line = (to) => {
    const context = canvas.getContext("2d");
    context.strokeStyle = $("color").value;
    context.lineWidth = Number($("thick").value) * Math.max(1, Math.max(canvas.width, canvas.height) / 256);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...at);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    at = to;
    if ((facts.milliseconds || 1000) < 80) translate();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    steps.push(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height));
    if (steps.length > MAX_UNDO) steps.shift();
    $("undo").disabled = false;
    at = position(event);
    line(at);
  });
  canvas.addEventListener("pointermove", (event) => at && event.buttons && line(position(event)));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => at && ((at = null), translate()));
  $("undo").addEventListener("click", undo);
}

/** The largest difference between the outputs of `test_picture` (apps/export/html.py) here and in PyTorch. */
function checkAll() {
  return facts.checks.map((check, i) => {
    const network = networks[i];
    network.plan(check.height, check.width);
    const x = network.input("x");
    for (let j = 0; j < x.length; j++) x[j] = Math.sin(j / 10);
    return difference(network.run(), check);
  });
}

async function start() {
  const wasm = block("wasm");
  for (let i = 0; i < facts.programs.length; i++)
    networks.push(await Network.load(wasm, block(`words-${i}`), block(`blob-${i}`), facts.programs[i]));
  document.querySelector(".desk").hidden = false;
  document.body.className = "translator";
  if (facts.channels === 4) [$("input"), $("picture")].forEach((canvas) => canvas.classList.add("alpha"));
  makeControls();
  if (!facts.restorer) makeBrush();
  $("status").textContent = "";
  place(null);
  $("summary").textContent = `${facts.card[0][1]}. Runs in this page, without a network.`;
  performance.mark("first-picture");
  setTimeout(() => {
    facts.error = Math.max(...checkAll());
    networks.forEach((network) => (network.height = 0)); // planned anew for the next picture
    const text = `${facts.error.toExponential(1)} at most, of numbers from -1 to 1 (computed here, just now)`;
    showCard([...facts.card, ["Difference from PyTorch", text]]);
    translate();
  }, 300);
}

start().catch(fail);
