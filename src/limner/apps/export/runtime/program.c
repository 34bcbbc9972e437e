/* Loading, planning and running a program. What a page calls:

   reserve(bytes)       memory for the program and for its weights
   load(words, blob)    read the program and unpack the weights; the number of operators, or 0 without enough memory
   plan(h, w)           find the size of every buffer for an input picture of that size, and a place in memory for each, where
                        two share it if they are never needed at once; the arena's bytes, or 0
   run(from, to)        compute the operators [from,to)
   data(b), height(b), width(b), channels(b)

The words of a program: magic, number of buffers, operators; for each buffer kind, h, w, c (0 where `plan` finds it), the offset
of its constants in the blob; for each operator its code, the number of words that follow, the output, and its arguments. */

#include "runtime.h"

#define MAGIC 0x314d4c52
#define EXPORT(name) __attribute__((export_name(#name)))

Buffer *buffers;
static Op *ops;
static int n_buffers, n_ops;
static void *loaded;        /* the heap's end after loading */
static float *zeros;        /* as many as the widest input of a convolution has channels */
static const float **table; /* of `run_conv` */

EXPORT(reserve) void *reserve(int bytes) { return allocate(bytes); }

EXPORT(load) int load(const int32_t *words, const uint8_t *blob) {
  if (words[0] != MAGIC) return 0;
  n_buffers = words[1], n_ops = words[2];
  buffers = allocate(n_buffers * (int64_t)sizeof(Buffer)), ops = allocate(n_ops * (int64_t)sizeof(Op));
  if (!buffers || !ops) return 0;
  words += 3;
  for (int i = 0; i < n_buffers; i++, words += 5) {
    Buffer *b = &buffers[i];
    b->kind = words[0], b->h = words[1], b->w = words[2], b->c = words[3];
    if (b->kind == CONSTANT) b->data = (float *)(blob + words[4]);
  }
  for (int i = 0; i < n_ops; i++) {
    ops[i].code = words[0], ops[i].out = words[2], ops[i].args = words + 3;
    words += 2 + words[1];
    if (ops[i].code == CONV && !(ops[i].conv = prepare_conv(ops[i].args + 4, blob))) return 0;
  }
  loaded = heap_mark();
  return n_ops;
}

/* Inputs of an operator: the count in args[0] for CONCATENATE, else fixed by the code. */
static int inputs_of(const Op *op, const int32_t **in) {
  *in = op->args;
  switch (op->code) {
    case CONCATENATE: *in = op->args + 1; return op->args[0];
    case BINARY: case MATMUL: return 2;
    case MULTIPLY_ADD: case INSTANCE_NORM: return 3;
    default: return 1;
  }
}

static void find_shape(const Op *op) {
  Buffer *out = &buffers[op->out];
  const int32_t *in, *a = op->args;
  int n = inputs_of(op, &in);
  const Buffer *x = &buffers[in[0]];
  if (op->code != COPY && op->code != RESHAPE) out->h = x->h, out->w = x->w, out->c = x->c;
  switch (op->code) {
    case CONV: conv_shape(op->conv, x, out); break;
    case BINARY: case MULTIPLY_ADD:
      for (int i = 1; i < n; i++) {
        out->h = at_least(out->h, buffers[in[i]].h), out->w = at_least(out->w, buffers[in[i]].w);
        out->c = at_least(out->c, buffers[in[i]].c);
      }
      break;
    case UPSAMPLE: out->h *= a[1], out->w *= a[1]; break;
    case POOL: out->h /= a[1], out->w /= a[1]; break;
    case SHUFFLE:
      if (a[2]) out->h *= a[1], out->w *= a[1], out->c /= a[1] * a[1];
      else out->h /= a[1], out->w /= a[1], out->c *= a[1] * a[1];
      break;
    case CONCATENATE:
      for (int i = 1; i < n; i++) out->c += buffers[in[i]].c;
      break;
    case REDUCE:
      if (a[1]) out->h = out->w = 1;
      else out->c = 1;
      break;
    case MATMUL: out->c = buffers[in[1]].w; break;
    case PAD: out->h += a[1] + a[2], out->w += a[3] + a[4]; break;
    case SLICE: out->c = a[2]; break;
  }
}

static int64_t size_of(const Buffer *b) { return ((int64_t)b->h * b->w * b->c + 3) & ~(int64_t)3; }

/* Give buffer b the first gap between the buffers that are needed while it is; returns the end of its memory. */
static int64_t place(Buffer *b) {
  int64_t size = size_of(b), at = 0;
  for (int moved = 1; moved;) {
    moved = 0;
    for (int i = 0; i < n_buffers; i++) {
      const Buffer *o = &buffers[i];
      if (o->offset < 0 || o->root != i || o->last < b->first || o->first > b->last) continue;
      if (at < o->offset + size_of(o) && o->offset < at + size) at = o->offset + size_of(o), moved = 1;
    }
  }
  b->offset = at;
  return at + size;
}

EXPORT(plan) int plan(int h, int w) {
  heap_reset(loaded);
  int widest = 1, taps = 1;
  for (int i = 0; i < n_buffers; i++) {
    Buffer *b = &buffers[i];
    b->root = i, b->first = b->last = -1, b->offset = -1;
    if (b->kind == PICTURE) b->h = h, b->w = w;
    if (b->kind == INPUT || b->kind == PICTURE) b->last = n_ops; /* a page may set one input and keep the others */
  }
  for (int i = 0; i < n_ops; i++) {
    const int32_t *in;
    int n = inputs_of(&ops[i], &in);
    find_shape(&ops[i]);
    Buffer *out = &buffers[ops[i].out];
    if (ops[i].code == RESHAPE) out->root = buffers[in[0]].root;
    out = &buffers[out->root];
    if (out->first < 0 && out->kind == COMPUTED) out->first = i;
    out->last = at_least(out->last, i);
    for (int j = 0; j < n; j++) {
      Buffer *used = &buffers[buffers[in[j]].root];
      used->last = at_least(used->last, i);
    }
    if (ops[i].code == CONV) {
      widest = at_least(widest, buffers[in[0]].c);
      for (int p = 0; p < ops[i].conv->phases; p++) taps = at_least(taps, ops[i].conv->phase[p].taps);
    }
  }
  buffers[buffers[ops[n_ops - 1].out].root].last = n_ops;
  int64_t end = 0;
  for (int i = 0; i < n_buffers; i++) {
    Buffer *b = &buffers[i];
    if (b->kind == CONSTANT || b->root != i || b->last < 0) continue;
    int64_t used = place(b);
    end = used > end ? used : end;
  }
  float *arena = allocate(end * 4 + 64);
  zeros = allocate(widest * (int64_t)4 + 64), table = allocate((int64_t)STRIP * taps * 4);
  if (!arena || !zeros || !table) return 0;
  for (int i = 0; i < n_buffers; i++) {
    Buffer *b = &buffers[i], *root = &buffers[b->root];
    if (b->kind == CONSTANT) continue;
    b->data = root->kind == CONSTANT ? root->data : arena + root->offset;
  }
  return (int)(end * 4);
}

static void run_op(const Op *op) {
  const int32_t *in, *a = op->args;
  int n = inputs_of(op, &in);
  Buffer *x = &buffers[in[0]], *out = &buffers[op->out];
  switch (op->code) {
    case CONV: run_conv(op->conv, x, out, a[1], float_of(a[2]), float_of(a[3]), zeros, table); return;
    case ACTIVATE:
      activate(out->data, x->data, (int64_t)out->h * out->w * out->c, a[1], float_of(a[2]), float_of(a[3]));
      return;
    case BINARY: run_binary(x, &buffers[in[1]], out, a[2]); a += 3; break;
    case MULTIPLY_ADD: run_multiply_add(x, &buffers[in[1]], &buffers[in[2]], out); a += 3; break;
    case INSTANCE_NORM: run_instance_norm(x, out, buffers[in[1]].data, buffers[in[2]].data, float_of(a[3])); a += 4; break;
    case UPSAMPLE: run_upsample(x, out, a[1], a[2]); return;
    case POOL: run_pool(x, out, a[1], a[2]); return;
    case SHUFFLE: run_shuffle(x, out, a[1], a[2]); return;
    case REDUCE: run_reduce(x, out, a[1], a[2]); return;
    case SOFTMAX: run_softmax(x, out); return;
    case MATMUL: run_matmul(x, &buffers[in[1]], out); return;
    case PAD: run_pad(x, out, a[1], a[3], a[5]); return;
    case COPY: run_copy(x, out, a + 1); return;
    case SLICE: run_slice(x, out, a[1]); return;
    case CONCATENATE:
      for (int64_t p = 0, pixels = (int64_t)out->h * out->w; p < pixels; p++) {
        float *to = out->data + p * out->c;
        for (int j = 0; j < n; j++) {
          const Buffer *part = &buffers[in[j]];
          for (int i = 0; i < part->c; i++) *to++ = part->data[p * part->c + i];
        }
      }
      return;
    default: return; /* RESHAPE: the same memory */
  }
  /* a fused activation: code, a, b */
  if (a[0]) activate(out->data, out->data, (int64_t)out->h * out->w * out->c, a[0], float_of(a[1]), float_of(a[2]));
}

EXPORT(run) void run(int from, int to) {
  for (int i = from; i < to && i < n_ops; i++) run_op(&ops[i]);
}

EXPORT(data) float *data(int b) { return buffers[b].data; }
EXPORT(height) int height(int b) { return buffers[b].h; }
EXPORT(width) int width(int b) { return buffers[b].w; }
EXPORT(channels) int channels(int b) { return buffers[b].c; }
