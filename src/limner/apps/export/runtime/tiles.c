/* The inner loops: products of input pixels and packed weights, summed over the taps and input channels of a convolution.

a holds the addresses of the tile's pixels for each tap; w holds [taps][n][channels of the block]. Every loaded number is used
four or eight times, and eight independent sums hide the latency of an addition. The larger tile sums each tap by itself, as one
long sum would lose twice as many digits. The sums are plain products and additions:
relaxed SIMD would fuse them, but not every browser has it, and its results differ between machines. */

#include "runtime.h"

#define ADD_TO(j, part) sum[j] = wasm_f32x4_add(sum[j], part)
#define MAC(sum, x, w) sum = wasm_f32x4_add(sum, wasm_f32x4_mul(x, w))

void tile_4x8(const float *const *a, const float *w, int taps, int n, v128_t *sum) {
  for (int j = 0; j < 8; j++) sum[j] = wasm_f32x4_splat(0);
  for (int t = 0; t < taps; t++, a += 4) {
    v128_t s00 = wasm_f32x4_splat(0), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
    const float *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3];
#pragma clang loop unroll_count(2)
    for (int i = 0; i < n; i++, w += 8) {
      v128_t w0 = wasm_v128_load(w), w1 = wasm_v128_load(w + 4), x;
      x = wasm_v128_load32_splat(a0 + i); MAC(s00, x, w0); MAC(s01, x, w1);
      x = wasm_v128_load32_splat(a1 + i); MAC(s10, x, w0); MAC(s11, x, w1);
      x = wasm_v128_load32_splat(a2 + i); MAC(s20, x, w0); MAC(s21, x, w1);
      x = wasm_v128_load32_splat(a3 + i); MAC(s30, x, w0); MAC(s31, x, w1);
    }
    ADD_TO(0, s00); ADD_TO(1, s01); ADD_TO(2, s10); ADD_TO(3, s11); ADD_TO(4, s20); ADD_TO(5, s21); ADD_TO(6, s30); ADD_TO(7, s31);
  }
}

void tile_8x4(const float *const *a, const float *w, int taps, int n, v128_t *sum) {
  v128_t s0 = wasm_f32x4_splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  for (int t = 0; t < taps; t++, a += 8) {
    const float *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3], *a4 = a[4], *a5 = a[5], *a6 = a[6], *a7 = a[7];
    for (int i = 0; i < n; i++, w += 4) {
      v128_t v = wasm_v128_load(w);
      MAC(s0, wasm_v128_load32_splat(a0 + i), v); MAC(s1, wasm_v128_load32_splat(a1 + i), v);
      MAC(s2, wasm_v128_load32_splat(a2 + i), v); MAC(s3, wasm_v128_load32_splat(a3 + i), v);
      MAC(s4, wasm_v128_load32_splat(a4 + i), v); MAC(s5, wasm_v128_load32_splat(a5 + i), v);
      MAC(s6, wasm_v128_load32_splat(a6 + i), v); MAC(s7, wasm_v128_load32_splat(a7 + i), v);
    }
  }
  sum[0] = s0; sum[1] = s1; sum[2] = s2; sum[3] = s3; sum[4] = s4; sum[5] = s5; sum[6] = s6; sum[7] = s7;
}

void tile_1x8(const float *const *a, const float *w, int taps, int n, v128_t *sum) {
  v128_t s0 = wasm_f32x4_splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  for (int t = 0; t < taps; t++) {
    const float *x = a[t];
    int i = 0;
    for (; i + 4 <= n; i += 4, w += 32) { /* four sums for each channel, or every addition would wait for the one before it */
      v128_t x0 = wasm_v128_load32_splat(x + i), x1 = wasm_v128_load32_splat(x + i + 1);
      v128_t x2 = wasm_v128_load32_splat(x + i + 2), x3 = wasm_v128_load32_splat(x + i + 3);
      MAC(s0, x0, wasm_v128_load(w)); MAC(s1, x0, wasm_v128_load(w + 4));
      MAC(s2, x1, wasm_v128_load(w + 8)); MAC(s3, x1, wasm_v128_load(w + 12));
      MAC(s4, x2, wasm_v128_load(w + 16)); MAC(s5, x2, wasm_v128_load(w + 20));
      MAC(s6, x3, wasm_v128_load(w + 24)); MAC(s7, x3, wasm_v128_load(w + 28));
    }
    for (; i < n; i++, w += 8) {
      v128_t x0 = wasm_v128_load32_splat(x + i);
      MAC(s0, x0, wasm_v128_load(w)); MAC(s1, x0, wasm_v128_load(w + 4));
    }
  }
  sum[0] = wasm_f32x4_add(wasm_f32x4_add(s0, s2), wasm_f32x4_add(s4, s6));
  sum[1] = wasm_f32x4_add(wasm_f32x4_add(s1, s3), wasm_f32x4_add(s5, s7));
}
