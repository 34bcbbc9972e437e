/* Operators on numbers one by one, with broadcasting, and on rows of channels. */

#include "runtime.h"

/* The address of a pixel of a buffer that may be one row or column, or one pixel, for all. */
static inline const float *spread(const Buffer *b, int y, int x) {
  return b->data + ((int64_t)(b->h == 1 ? 0 : y) * b->w + (b->w == 1 ? 0 : x)) * b->c;
}

static inline v128_t four(const float *p, int i, int single) {
  return single ? wasm_v128_load32_splat(p) : wasm_v128_load(p + i);
}

static inline v128_t combine(v128_t x, v128_t y, int kind) {
  switch (kind) {
    case ADD: return wasm_f32x4_add(x, y);
    case SUBTRACT: return wasm_f32x4_sub(x, y);
    case MULTIPLY: return wasm_f32x4_mul(x, y);
    default: return wasm_f32x4_div(x, y);
  }
}

static void binary_row(float *to, const float *p, const float *q, int n, int single_p, int single_q, int kind) {
  int i = 0;
  for (; i + 4 <= n; i += 4) wasm_v128_store(to + i, combine(four(p, i, single_p), four(q, i, single_q), kind));
  for (; i < n; i++) {
    v128_t v = combine(wasm_f32x4_splat(p[single_p ? 0 : i]), wasm_f32x4_splat(q[single_q ? 0 : i]), kind);
    to[i] = wasm_f32x4_extract_lane(v, 0);
  }
}

void run_binary(const Buffer *x, const Buffer *y, Buffer *out, int kind) {
  if (x->h == y->h && x->w == y->w && x->c == y->c) {
    binary_row(out->data, x->data, y->data, out->h * out->w * out->c, 0, 0, kind);
    return;
  }
  float *to = out->data;
  for (int r = 0; r < out->h; r++)
    for (int s = 0; s < out->w; s++, to += out->c)
      binary_row(to, spread(x, r, s), spread(y, r, s), out->c, x->c == 1, y->c == 1, kind);
}

/* x scale + shift */
void run_multiply_add(const Buffer *x, const Buffer *scale, const Buffer *shift, Buffer *out) {
  int n = out->c, one_x = x->c == 1, one_a = scale->c == 1, one_b = shift->c == 1;
  float *to = out->data;
  for (int r = 0; r < out->h; r++)
    for (int s = 0; s < out->w; s++, to += n) {
      const float *p = spread(x, r, s), *a = spread(scale, r, s), *b = spread(shift, r, s);
      int i = 0;
      for (; i + 4 <= n; i += 4)
        wasm_v128_store(to + i, wasm_f32x4_add(wasm_f32x4_mul(four(p, i, one_x), four(a, i, one_a)), four(b, i, one_b)));
      for (; i < n; i++) to[i] = p[one_x ? 0 : i] * a[one_a ? 0 : i] + b[one_b ? 0 : i];
    }
}

/* The sum or mean of each pixel's channels, or of each channel over the map. */
void run_reduce(const Buffer *in, Buffer *out, int spatial, int mean) {
  int64_t pixels = (int64_t)in->h * in->w;
  int c = in->c;
  if (!spatial) {
    for (int64_t p = 0; p < pixels; p++) {
      float sum = 0;
      for (int i = 0; i < c; i++) sum += in->data[p * c + i];
      out->data[p] = mean ? sum / (float)c : sum;
    }
    return;
  }
  for (int i = 0; i < c; i++) {
    float sum = 0;
    for (int y = 0; y < in->h; y++) {
      float row = 0;
      for (int x = 0; x < in->w; x++) row += in->data[((int64_t)y * in->w + x) * c + i];
      sum += row;
    }
    out->data[i] = mean ? sum / (float)pixels : sum;
  }
}

void run_softmax(const Buffer *in, Buffer *out) {
  int c = in->c;
  for (int64_t p = 0, pixels = (int64_t)in->h * in->w; p < pixels; p++) {
    const float *from = in->data + p * c;
    float *to = out->data + p * c, most = from[0], sum = 0;
    for (int i = 1; i < c; i++) most = from[i] > most ? from[i] : most;
    for (int i = 0; i < c; i++) to[i] = from[i] - most;
    activate(to, to, c, EXP, 0, 0);
    for (int i = 0; i < c; i++) sum += to[i];
    for (int i = 0; i < c; i++) to[i] /= sum;
  }
}

/* x [1,n,k] times the transpose of y [1,m,k] -> [1,n,m] */
void run_matmul(const Buffer *x, const Buffer *y, Buffer *out) {
  int k = x->c, m = y->w;
  for (int r = 0; r < x->w; r++)
    for (int s = 0; s < m; s++) {
      const float *p = x->data + (int64_t)r * k, *q = y->data + (int64_t)s * k;
      v128_t even = wasm_f32x4_splat(0), odd = even;
      int i = 0;
      for (; i + 8 <= k; i += 8) {
        even = wasm_f32x4_add(even, wasm_f32x4_mul(wasm_v128_load(p + i), wasm_v128_load(q + i)));
        odd = wasm_f32x4_add(odd, wasm_f32x4_mul(wasm_v128_load(p + i + 4), wasm_v128_load(q + i + 4)));
      }
      even = wasm_f32x4_add(even, odd);
      float sum = wasm_f32x4_extract_lane(even, 0) + wasm_f32x4_extract_lane(even, 1) + wasm_f32x4_extract_lane(even, 2) +
                  wasm_f32x4_extract_lane(even, 3);
      for (; i < k; i++) sum += p[i] * q[i];
      out->data[(int64_t)r * m + s] = sum;
    }
}
