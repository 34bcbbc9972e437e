/* Convolutions of every kind (strided, dilated, grouped, transposed; a linear map is one of a single pixel) as products of
   packed weights and input pixels at looked-up addresses: Dukhan 2019, "The indirect convolution algorithm". Pixels outside the
   map have the address of a row of zeros.

   A transposed convolution of stride s is s x s ordinary ones, the phases: each computes every s-th row and column of the
   output from the taps that reach it. */

#include "runtime.h"

enum { /* arguments of the operator after its input and output; the same order in program.py */
  OUTPUTS, INPUTS, KH, KW, SY, SX, PY, PX, DY, DX, GROUPS, TRANSPOSED, DOUBLED, BITS, WEIGHTS, SCALES, BIAS,
};

/* A weight of row r stored with 8, 16 or 24 bits is a whole number times the scale of the row; with 32 bits it is a float. */
static float stored(const uint8_t *blob, const int32_t *args, int64_t index, int row) {
  const uint8_t *p = blob + args[WEIGHTS];
  const float *scales = (const float *)(blob + args[SCALES]);
  if (args[BITS] == 32) return ((const float *)p)[index];
  if (args[BITS] == 8) return (float)(int8_t)p[index] * scales[row];
  if (args[BITS] == 16) return (float)(int16_t)(p[2 * index] | p[2 * index + 1] << 8) * scales[row];
  p += 3 * index;
  return (float)((int32_t)((uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24) >> 8) * scales[row];
}

/* One axis of the kernel of 4 taps (stride 2, transposed) that equals nearest-neighbor doubling and a kernel of 3 taps:
   (w2, w1 + w2, w0 + w1, w0). first[k] and last[k] are the taps of 3 that tap k of 4 sums. */
static const int first[] = {2, 1, 0, 0}, last[] = {2, 2, 1, 0};

static float weight_at(const uint8_t *blob, const int32_t *args, int row, int input, int ky, int kx) {
  int kh = args[KH], kw = args[KW];
  if (!args[DOUBLED]) return stored(blob, args, (((int64_t)row * args[INPUTS] + input) * kh + ky) * kw + kx, row);
  float sum = 0;
  for (int y = first[ky]; y <= last[ky]; y++)
    for (int x = first[kx]; x <= last[kx]; x++)
      sum += stored(blob, args, (((int64_t)row * args[INPUTS] + input) * 3 + y) * 3 + x, row);
  return sum;
}

static int prepare_phase(Conv *conv, Phase *phase, const int32_t *args, const uint8_t *blob) {
  int most = conv->kh * conv->kw, ky[most], kx[most], taps = 0;
  phase->dy = allocate(most * 4), phase->dx = allocate(most * 4);
  if (!phase->dy || !phase->dx) return 0;
  for (int y = 0; y < conv->kh; y++)
    for (int x = 0; x < conv->kw; x++) {
      int dy = y * conv->dy - conv->py, dx = x * conv->dx - conv->px;
      if (conv->transposed) {
        dy = phase->y0 - dy, dx = phase->x0 - dx;
        if (dy % conv->sy || dx % conv->sx) continue;
        dy /= conv->sy, dx /= conv->sx;
      }
      phase->dy[taps] = dy, phase->dx[taps] = dx, ky[taps] = y, kx[taps] = x, taps++;
    }
  phase->taps = taps;
  int nr = conv->nr;
  float *w = allocate((int64_t)conv->groups * conv->blocks * taps * conv->inputs * nr * 4);
  if (!w) return 0;
  phase->weights = w;
  for (int g = 0; g < conv->groups; g++)
    for (int b = 0; b < conv->blocks; b++)
      for (int t = 0; t < taps; t++)
        for (int i = 0; i < conv->inputs; i++)
          for (int j = 0; j < nr; j++, w++)
            if (b * nr + j < conv->outputs) *w = weight_at(blob, args, g * conv->outputs + b * nr + j, i, ky[t], kx[t]);
  return 1;
}

Conv *prepare_conv(const int32_t *args, const uint8_t *blob) {
  Conv *conv = allocate(sizeof(Conv));
  if (!conv) return 0;
  conv->groups = args[GROUPS], conv->outputs = args[OUTPUTS] / conv->groups, conv->inputs = args[INPUTS];
  conv->kh = args[KH], conv->kw = args[KW], conv->sy = args[SY], conv->sx = args[SX], conv->py = args[PY], conv->px = args[PX];
  conv->dy = args[DY], conv->dx = args[DX], conv->transposed = args[TRANSPOSED];
  conv->nr = conv->outputs <= 4 ? 4 : 8;
  conv->blocks = (conv->outputs + conv->nr - 1) / conv->nr;
  float *bias = allocate((int64_t)conv->groups * conv->blocks * conv->nr * 4);
  if (!bias) return 0;
  conv->bias = bias;
  for (int g = 0; g < conv->groups && args[BIAS] >= 0; g++)
    for (int j = 0; j < conv->outputs; j++)
      bias[g * conv->blocks * conv->nr + j] = ((const float *)(blob + args[BIAS]))[g * conv->outputs + j];
  conv->phases = conv->transposed ? conv->sy * conv->sx : 1;
  conv->phase = allocate(conv->phases * (int64_t)sizeof(Phase));
  if (!conv->phase) return 0;
  for (int p = 0; p < conv->phases; p++) {
    conv->phase[p].y0 = p / conv->sx, conv->phase[p].x0 = p % conv->sx;
    if (!prepare_phase(conv, &conv->phase[p], args, blob)) return 0;
  }
  return conv;
}

void conv_shape(const Conv *conv, const Buffer *in, Buffer *out) {
  int h = (conv->kh - 1) * conv->dy + 1, w = (conv->kw - 1) * conv->dx + 1;
  if (conv->transposed) {
    out->h = (in->h - 1) * conv->sy - 2 * conv->py + h, out->w = (in->w - 1) * conv->sx - 2 * conv->px + w;
  } else {
    out->h = (in->h + 2 * conv->py - h) / conv->sy + 1, out->w = (in->w + 2 * conv->px - w) / conv->sx + 1;
  }
  out->c = conv->outputs * conv->groups;
}

/* Add the bias to one pixel's sums, apply x -> (max(x,0) + slope min(x,0)) gain, and store the channels that exist. */
static void finish(float *y, v128_t *sum, int vectors, const float *bias, int count, v128_t slope, v128_t gain) {
  v128_t zero = wasm_f32x4_splat(0);
  for (int v = 0; v < vectors && count > 0; v++, count -= 4, y += 4) {
    v128_t x = wasm_f32x4_add(sum[v], wasm_v128_load(bias + 4 * v));
    x = wasm_f32x4_mul(wasm_f32x4_add(wasm_f32x4_max(x, zero), wasm_f32x4_mul(wasm_f32x4_min(x, zero), slope)), gain);
    if (count >= 4) {
      wasm_v128_store(y, x);
      continue;
    }
    y[0] = wasm_f32x4_extract_lane(x, 0);
    if (count > 1) y[1] = wasm_f32x4_extract_lane(x, 1);
    if (count > 2) y[2] = wasm_f32x4_extract_lane(x, 2);
  }
}

/* Look up the input addresses of output pixels [from,to) of a phase `columns` wide: table [tiles][taps][mr]. */
static void look_up(const Conv *conv, const Phase *phase, const Buffer *in, int columns, int from, int to, int mr,
                    const float *zeros, const float **table) {
  int step_y = conv->transposed ? 1 : conv->sy, step_x = conv->transposed ? 1 : conv->sx, taps = phase->taps;
  int tiles = (to - from + mr - 1) / mr;
  int row = from / columns, column = from % columns;
  for (int p = 0; p < tiles * mr; p++) {
    const float **entry = table + (int64_t)(p / mr) * taps * mr + p % mr;
    int real = from + p < to;
    for (int t = 0; t < taps; t++) {
      int y = row * step_y + phase->dy[t], x = column * step_x + phase->dx[t];
      int inside = real && y >= 0 && y < in->h && x >= 0 && x < in->w;
      entry[(int64_t)t * mr] = inside ? in->data + ((int64_t)y * in->w + x) * in->c : zeros;
    }
    if (++column == columns) column = 0, row++;
  }
}

static void run_phase(const Conv *conv, const Phase *phase, const Buffer *in, Buffer *out, float slope, float gain,
                      const float *zeros, const float **table) {
  int oy = conv->transposed ? conv->sy : 1, ox = conv->transposed ? conv->sx : 1, nr = conv->nr, taps = phase->taps;
  int rows = (out->h - phase->y0 + oy - 1) / oy, columns = (out->w - phase->x0 + ox - 1) / ox, pixels = rows * columns;
  int mr = pixels == 1 && nr == 8 ? 1 : nr == 8 ? 4 : 8, vectors = nr / 4;
  int64_t block = (int64_t)taps * conv->inputs * nr;
  v128_t vslope = wasm_f32x4_splat(slope), vgain = wasm_f32x4_splat(gain), sum[8];
  for (int from = 0; from < pixels; from += STRIP) {
    int to = at_most(from + STRIP, pixels);
    look_up(conv, phase, in, columns, from, to, mr, zeros, table);
    for (int g = 0; g < conv->groups; g++) {
      const float *weights = phase->weights + (int64_t)g * conv->blocks * block;
      for (int b = 0; b < conv->blocks; b++, weights += block) {
        const float *bias = conv->bias + (g * conv->blocks + b) * nr;
        int count = at_most(conv->outputs - b * nr, nr), channel = g * conv->outputs + b * nr;
        const float *const *a = table;
        for (int p = from; p < to; p += mr, a += (int64_t)taps * mr) {
          if (mr == 4) tile_4x8(a, weights, taps, conv->inputs, sum);
          else if (mr == 8) tile_8x4(a, weights, taps, conv->inputs, sum);
          else tile_1x8(a, weights, taps, conv->inputs, sum);
          int row = p / columns, column = p % columns;
          for (int i = 0; i < mr && p + i < to; i++) {
            int64_t at = (int64_t)(phase->y0 + row * oy) * out->w + phase->x0 + column * ox;
            finish(out->data + at * out->c + channel, sum + i * vectors, vectors, bias, count, vslope, vgain);
            if (++column == columns) column = 0, row++;
          }
        }
      }
      /* the next group reads the next channels of the same pixels */
      if (g + 1 < conv->groups)
        for (int64_t i = 0, n = (int64_t)((to - from + mr - 1) / mr) * taps * mr; i < n; i++) table[i] += conv->inputs;
    }
  }
}

void run_conv(const Conv *conv, const Buffer *in, Buffer *out, int code, float a, float b, const float *zeros, const float **table) {
  int simple = code == LEAKY; /* other activations take a second pass */
  for (int p = 0; p < conv->phases; p++)
    run_phase(conv, &conv->phase[p], in, out, simple ? a : 1, simple ? b : 1, zeros, table);
  if (!simple && code != IDENTITY) activate(out->data, out->data, (int64_t)out->h * out->w * out->c, code, a, b);
}
