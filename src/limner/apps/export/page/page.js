/* What the pages of all models share. */

const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);

/** The content of a data element; the text is freed, as the bytes are enough. */
function block(id) {
  const element = $(id), bytes = bytesOf(element.textContent);
  element.remove();
  return bytes;
}

/** Numbers in [-1,1], [h,w,c], onto a canvas of that size. */
function paint(canvas, numbers, height, width, channels) {
  if (canvas.width !== width || canvas.height !== height) (canvas.width = width), (canvas.height = height);
  const image = new ImageData(width, height), to = image.data;
  for (let i = 0, p = 0; i < to.length; i += 4, p += channels) {
    to[i] = (numbers[p] + 1) * 127.5; // the array clamps and rounds
    to[i + 1] = channels < 3 ? to[i] : (numbers[p + 1] + 1) * 127.5;
    to[i + 2] = channels < 3 ? to[i] : (numbers[p + 2] + 1) * 127.5;
    to[i + 3] = channels === 4 ? (numbers[p + 3] + 1) * 127.5 : 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function download(bytes, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function savePng(canvas, name, settings) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const bytes = new Uint8Array(await blob.arrayBuffer());
  download(withText(bytes, "limner", JSON.stringify(settings)), name, "image/png");
}

/** The largest difference between sampled numbers of an output and those of PyTorch. */
function difference(made, check) {
  let most = 0;
  floatsOf(check.expected).forEach((value, i) => (most = Math.max(most, Math.abs(value - made[i * check.step]))));
  return most;
}

function showCard(rows) {
  for (const [name, value] of rows) {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    $("card").append(term, text);
  }
}

function fail(error) {
  $("status").textContent = error instanceof WebAssembly.CompileError
    ? "This browser lacks WebAssembly with SIMD: update it (Chrome 91, Firefox 89, Safari 16.4 or newer)."
    : String(error.message || error);
  $("status").className = "error";
}

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const slug = document.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
