/* Operators on maps [h,w,c] that move or combine pixels. */

#include "runtime.h"

static inline float *pixel(const Buffer *b, int y, int x) { return b->data + ((int64_t)y * b->w + x) * b->c; }

static void copy_row(float *to, const float *from, int64_t n) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) wasm_v128_store(to + i, wasm_v128_load(from + i));
  for (; i < n; i++) to[i] = from[i];
}

/* y = p + t (q - p), n numbers */
static void blend(float *y, const float *p, const float *q, float t, int n) {
  v128_t vt = wasm_f32x4_splat(t);
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    v128_t a = wasm_v128_load(p + i);
    wasm_v128_store(y + i, wasm_f32x4_add(a, wasm_f32x4_mul(vt, wasm_f32x4_sub(wasm_v128_load(q + i), a))));
  }
  for (; i < n; i++) y[i] = p[i] + t * (q[i] - p[i]);
}

/* The two input positions between which output position i lies, and the weight of the second; half-pixel centers. */
static float between(int i, int scale, int size, int *low, int *high) {
  float at = ((float)i + 0.5f) / (float)scale - 0.5f;
  if (at < 0) at = 0;
  *low = (int)at;
  *high = at_most(*low + 1, size - 1);
  return at - (float)*low;
}

void run_upsample(const Buffer *in, Buffer *out, int scale, int bilinear) {
  int c = in->c;
  float rows[2][c];
  for (int y = 0; y < out->h; y++) {
    int top = y / scale, bottom = top, left, right;
    float ty = bilinear ? between(y, scale, in->h, &top, &bottom) : 0;
    for (int x = 0; x < out->w; x++) {
      if (!bilinear) {
        copy_row(pixel(out, y, x), pixel(in, top, x / scale), c);
        continue;
      }
      float tx = between(x, scale, in->w, &left, &right);
      blend(rows[0], pixel(in, top, left), pixel(in, top, right), tx, c);
      blend(rows[1], pixel(in, bottom, left), pixel(in, bottom, right), tx, c);
      blend(pixel(out, y, x), rows[0], rows[1], ty, c);
    }
  }
}

void run_pool(const Buffer *in, Buffer *out, int size, int maximum) {
  float share = 1.0f / (float)(size * size);
  for (int y = 0; y < out->h; y++)
    for (int x = 0; x < out->w; x++) {
      float *to = pixel(out, y, x);
      for (int i = 0; i < in->c; i++) {
        float sum = maximum ? pixel(in, y * size, x * size)[i] : 0;
        for (int dy = 0; dy < size; dy++)
          for (int dx = 0; dx < size; dx++) {
            float v = pixel(in, y * size + dy, x * size + dx)[i];
            sum = !maximum ? sum + v : v > sum ? v : sum;
          }
        to[i] = maximum ? sum : sum * share;
      }
    }
}

/* Channel c r^2 + y r + x of a small map and channel c, row y, column x of a block of the large map are the same number. */
void run_shuffle(const Buffer *in, Buffer *out, int r, int up) {
  const Buffer *small = up ? in : out, *large = up ? out : in;
  for (int y = 0; y < large->h; y++)
    for (int x = 0; x < large->w; x++) {
      float *l = pixel(large, y, x), *s = pixel(small, y / r, x / r) + y % r * r + x % r;
      for (int i = 0; i < large->c; i++) {
        if (up) l[i] = s[i * r * r];
        else s[i * r * r] = l[i];
      }
    }
}

/* Each channel to mean 0 and variance 1 over the map, then scaled and shifted. Sums are of rows first: a plain sum of 65,536
   numbers would lose digits. */
void run_instance_norm(const Buffer *in, Buffer *out, const float *weight, const float *bias, float eps) {
  int c = in->c;
  float mean[c], variance[c], sum[c];
  float share = 1.0f / ((float)in->h * (float)in->w);
  for (int pass = 0; pass < 2; pass++) {
    float *total = pass ? variance : mean;
    for (int i = 0; i < c; i++) total[i] = 0;
    for (int y = 0; y < in->h; y++) {
      for (int i = 0; i < c; i++) sum[i] = 0;
      for (int x = 0; x < in->w; x++) {
        const float *from = pixel(in, y, x);
        if (pass) for (int i = 0; i < c; i++) sum[i] += (from[i] - mean[i]) * (from[i] - mean[i]);
        else for (int i = 0; i < c; i++) sum[i] += from[i];
      }
      for (int i = 0; i < c; i++) total[i] += sum[i];
    }
    for (int i = 0; i < c; i++) total[i] *= share;
  }
  for (int i = 0; i < c; i++) sum[i] = weight[i] / __builtin_sqrtf(variance[i] + eps);
  for (int64_t p = 0, n = (int64_t)in->h * in->w; p < n; p++) {
    const float *from = in->data + p * c;
    float *to = out->data + p * c;
    for (int i = 0; i < c; i++) to[i] = (from[i] - mean[i]) * sum[i] + bias[i];
  }
}

enum { ZERO, REFLECT, REPLICATE };

void run_pad(const Buffer *in, Buffer *out, int top, int left, int mode) {
  for (int y = 0; y < out->h; y++)
    for (int x = 0; x < out->w; x++) {
      int sy = y - top, sx = x - left;
      if (mode == ZERO && (sy < 0 || sy >= in->h || sx < 0 || sx >= in->w)) {
        fill_zero(pixel(out, y, x), (int64_t)in->c * 4);
        continue;
      }
      if (mode == REFLECT) {
        sy = sy < 0 ? -sy : sy >= in->h ? 2 * in->h - 2 - sy : sy;
        sx = sx < 0 ? -sx : sx >= in->w ? 2 * in->w - 2 - sx : sx;
      }
      sy = at_most(at_least(sy, 0), in->h - 1), sx = at_most(at_least(sx, 0), in->w - 1);
      copy_row(pixel(out, y, x), pixel(in, sy, sx), in->c);
    }
}

/* args: offset, then the strides of row, column and channel, in numbers of the input */
void run_copy(const Buffer *in, Buffer *out, const int32_t *args) {
  float *to = out->data;
  for (int y = 0; y < out->h; y++)
    for (int x = 0; x < out->w; x++) {
      const float *from = in->data + args[0] + (int64_t)y * args[1] + (int64_t)x * args[2];
      for (int i = 0; i < out->c; i++, from += args[3]) *to++ = *from;
    }
}

void run_slice(const Buffer *in, Buffer *out, int start) {
  for (int64_t p = 0, n = (int64_t)in->h * in->w; p < n; p++)
    copy_row(out->data + p * out->c, in->data + p * in->c + start, out->c);
}
