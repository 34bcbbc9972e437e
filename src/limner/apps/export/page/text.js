/* The text of a text-to-image generator: its tokens (core/hashing.py) and its sentence (networks/text2image.py). */

const text = { ...facts.text, folds: new Map(Object.entries(facts.text.folds)), tables: {}, sentence: null, shown: "" };
for (const [name, table] of Object.entries(text.encoder)) text.tables[name] = floatsOf(table);
const utf8 = new TextEncoder();

/** The words of a text, in lower case: runs of letters, digits and marks; ideographs, kana and symbols alone. */
function wordsOf(given) {
  const found = [""], last = () => found.length - 1;
  const read = [...given].slice(0, text.tokenizer.longest).join("").normalize("NFKC");
  const folded = [...read].map((c) => text.folds.get(c) ?? c.toLowerCase()).join(""); // Unicode's case folding
  for (const c of folded) {
    const letter = /[\p{L}\p{N}]/u.test(c);
    if (letter && !standsAlone(c.codePointAt(0))) found[last()] += c;
    else if (/\p{M}/u.test(c)) found[last()] += found[last()] ? c : "";
    else if (letter || /\p{S}/u.test(c)) found.push(c, "");
    else if (!/[\p{Cf}\p{Cs}'’]/u.test(c)) found.push("");
  }
  return found.filter((word) => word);
}

function standsAlone(point) {
  return (point >= 0x3040 && point <= 0x30ff) || (point >= 0x3400 && point <= 0x9fff) || point >= 0x20000;
}

/** The tokens of a word: hashes of the word and of each group of letters of <word>. */
function tokensOf(word) {
  const { vocabulary, word_tokens, letters } = text.tokenizer, marked = [..."<" + word + ">"], parts = [`= ${word}`];
  for (let i = 0; i + letters <= marked.length; i++) parts.push(marked.slice(i, i + letters).join(""));
  return parts.slice(0, word_tokens).map((part) => 1 + (crc32(utf8.encode(part)) % (vocabulary - 1)));
}

const leaky = (x) => (x < 0 ? 0.2 * x : x);

/** weight [outputs, inputs] of a row, plus a bias. */
function dense(weight, bias, row) {
  return Array.from(bias, (sum, o) => row.reduce((total, x, i) => total + weight[o * row.length + i] * x, sum));
}

/** The sentence of words: the sum of the tokens' rows of each over the root of their number, a convolution over neighbors, their sum, two layers, a norm. */
function sentenceOf(words) {
  const { table, words_weight, words_bias, mix_weight, mix_bias, last_weight, last_bias } = text.tables;
  const size = table.length / text.tokenizer.vocabulary, width = words_bias.length;
  const rows = words.slice(0, text.tokenizer.words).map((word) => {
    const tokens = tokensOf(word), scale = 1 / Math.sqrt(tokens.length);
    return Array.from({ length: size }, (_, e) => tokens.reduce((sum, token) => sum + table[token * size + e], 0) * scale);
  });
  let x = new Array(width).fill(0);
  for (let at = 0; at < rows.length; at++) {
    for (let s = 0; s < width; s++) {
      let sum = words_bias[s];
      for (let k = 0; k < 3; k++) {
        const row = rows[at + k - 1];
        if (row) for (let e = 0; e < size; e++) sum += words_weight[(s * size + e) * 3 + k] * row[e];
      }
      x[s] += leaky(sum) / Math.sqrt(rows.length);
    }
  }
  const mixed = dense(mix_weight, mix_bias, x);
  x = dense(last_weight, last_bias, x.map((value, i) => value + leaky(mixed[i])));
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const deviation = Math.sqrt(x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length + 1e-5);
  return Float32Array.from(x, (value) => (value - mean) / deviation);
}

/** Draw what another text says. A text without words is refused, and the picture stays. */
function setText(given) {
  const words = wordsOf(given);
  $("text").setCustomValidity(words.length ? "" : "This text has no words.");
  if (!words.length) return false;
  text.shown = given;
  text.sentence = sentenceOf(words);
  return true;
}

function makeText() {
  for (const caption of text.captions) $("captions").append(new Option(caption));
  $("text").value = text.captions[0];
  setText(text.captions[0]);
  $("text").addEventListener("input", () => {
    if (setText($("text").value)) refresh(), later(sheet);
    else $("text").reportValidity();
  });
}
