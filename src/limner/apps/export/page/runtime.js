/* The runtime: one program in one WebAssembly instance. Everything below runs in a classic script, as `file://` requires. */

"use strict";

/** Bytes of a base64 text. */
function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

class Network {
  /** facts: {inputs: {name: buffer}, output: buffer}; words and blob: bytes, as apps/export/program.py packs them. */
  static async load(wasm, words, blob, facts) {
    const { instance } = await WebAssembly.instantiate(wasm, {});
    return new Network(instance.exports, words, blob, facts);
  }

  constructor(runtime, words, blob, facts) {
    this.runtime = runtime;
    this.facts = facts;
    const place = (bytes) => {
      const at = runtime.reserve(bytes.length);
      if (!at) throw new Error("There is not enough memory for this model.");
      new Uint8Array(runtime.memory.buffer, at >>> 0, bytes.length).set(bytes);
      return at;
    };
    const at = [place(words), place(blob)];
    this.operators = runtime.load(...at);
    if (!this.operators) throw new Error("There is not enough memory for this model.");
  }

  /** Choose the size of the input picture; a generator has none. */
  plan(height = 0, width = 0) {
    this.arena = this.runtime.plan(height, width);
    if (!this.arena) throw new Error("There is not enough memory for a picture of this size.");
  }

  /** The numbers of a buffer, in place: valid until the next `plan`. */
  view(buffer) {
    const r = this.runtime;
    const count = r.height(buffer) * r.width(buffer) * r.channels(buffer);
    return new Float32Array(r.memory.buffer, r.data(buffer) >>> 0, count);
  }

  input(name) {
    return this.view(this.facts.inputs[name]);
  }

  /** Compute at once. -> numbers [h,w,c] */
  run() {
    this.runtime.run(0, this.operators);
    return this.view(this.facts.output);
  }

  /** Compute in pieces, so that the page stays responsive. progress: called with the share done; false stops. */
  async runInPieces(progress) {
    let started = performance.now();
    for (let i = 0; i < this.operators; i++) {
      this.runtime.run(i, i + 1);
      if (performance.now() - started > 30) {
        if (progress((i + 1) / this.operators) === false) return null;
        await new Promise((resolve) => setTimeout(resolve));
        started = performance.now();
      }
    }
    return this.view(this.facts.output);
  }
}
