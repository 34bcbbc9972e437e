/* Random latents from seeds, their distributions, and text inside PNG files. */

/** A generator of whole numbers below 2^32 from a seed: SplitMix32, a mixing of a counter (Steele et al. 2014, section 5). */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  };
}

/** Standard normal numbers (Box and Muller 1958). */
function normal(count, seed) {
  const next = random(seed), numbers = new Float32Array(count);
  for (let i = 0; i < 8; i++) next();
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log((next() + 1) / 4294967297)), angle = (2 * Math.PI * next()) / 4294967296;
    numbers[i] = radius * Math.cos(angle);
    if (i + 1 < count) numbers[i + 1] = radius * Math.sin(angle);
  }
  return numbers;
}

/** The error function, by its Taylor series, which converges everywhere and is exact enough below 5. */
function erf(x) {
  if (Math.abs(x) > 5) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** Its inverse below 0.96 in magnitude, by Newton's method. */
function inverseErf(y) {
  let x = 0;
  for (let i = 0; i < 60; i++) {
    const step = ((erf(x) - y) * Math.sqrt(Math.PI) * Math.exp(x * x)) / 2;
    x -= step;
    if (Math.abs(step) < 1e-14) break;
  }
  return x;
}

/** Standard normal numbers as the model takes them; core/latents.py has the same functions. */
const DISTRIBUTIONS = {
  normal: (z) => z,
  uniform: (z) => erf(z / Math.SQRT2),
  truncated: (z) => inverseErf(erf(z / Math.SQRT2) * erf(Math.SQRT2)) * Math.SQRT2,
};

/** The latent at share t from a to b on a great circle, with lengths blended (Shoemake 1985, "Animating rotation"). */
function between(a, b, t) {
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) (ab += a[i] * b[i]), (aa += a[i] * a[i]), (bb += b[i] * b[i]);
  const la = Math.sqrt(aa), lb = Math.sqrt(bb);
  const angle = Math.acos(Math.min(1, Math.max(-1, ab / (la * lb || 1))));
  const length = la + t * (lb - la), sine = Math.sin(angle);
  const p = sine > 1e-4 ? Math.sin((1 - t) * angle) / sine : 1 - t, q = sine > 1e-4 ? Math.sin(t * angle) / sine : t;
  return a.map((x, i) => length * ((p * x) / (la || 1) + (q * b[i]) / (lb || 1)));
}

function floatsOf(text) {
  const bytes = bytesOf(text);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** CRC-32 of the PNG specification, annex D. */
function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** PNG bytes with a text chunk (iTXt) after the header. */
function withText(png, keyword, text) {
  const utf8 = new TextEncoder();
  const content = [...utf8.encode("iTXt" + keyword), 0, 0, 0, 0, 0, ...utf8.encode(text)];
  const chunk = new Uint8Array(content.length + 8), view = new DataView(chunk.buffer);
  view.setUint32(0, content.length - 4);
  chunk.set(content, 4);
  view.setUint32(content.length + 4, crc32(content));
  const at = 33, made = new Uint8Array(png.length + chunk.length); // 8 bytes of signature, 25 of IHDR
  made.set(png.subarray(0, at));
  made.set(chunk, at);
  made.set(png.subarray(at), at + chunk.length);
  return made;
}
