/* Activations, four numbers at a time. */

#include "runtime.h"

/* e^x to about one unit in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, Taylor's series of e^r to r^7, times 2^n.
   ln 2 is split in two, so that n ln 2 is exact (Cody and Waite 1980). */
v128_t exp4(v128_t x) {
  x = wasm_f32x4_min(wasm_f32x4_max(x, wasm_f32x4_splat(-87.0f)), wasm_f32x4_splat(88.0f));
  v128_t n = wasm_f32x4_nearest(wasm_f32x4_mul(x, wasm_f32x4_splat(1.44269504089f)));
  v128_t r = wasm_f32x4_sub(x, wasm_f32x4_mul(n, wasm_f32x4_splat(0.693359375f)));
  r = wasm_f32x4_add(r, wasm_f32x4_mul(n, wasm_f32x4_splat(2.12194440e-4f)));
  static const float series[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1};
  v128_t y = wasm_f32x4_splat(1.0f / 5040);
  for (int i = 0; i < 7; i++) y = wasm_f32x4_add(wasm_f32x4_mul(y, r), wasm_f32x4_splat(series[i]));
  v128_t power = wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(n), wasm_i32x4_splat(127)), 23);
  return wasm_f32x4_mul(y, power);
}

static v128_t sigmoid4(v128_t x) {
  v128_t one = wasm_f32x4_splat(1);
  return wasm_f32x4_div(one, wasm_f32x4_add(one, exp4(wasm_f32x4_neg(x))));
}

/* tanh x = sign(x) (1 - 2 / (e^2|x| + 1)); near 0, where this cancels, x - x^3/3 + 2x^5/15 - 17x^7/315 */
static v128_t tanh4(v128_t x) {
  v128_t one = wasm_f32x4_splat(1), size = wasm_f32x4_abs(x), s = wasm_f32x4_mul(x, x);
  v128_t e = exp4(wasm_f32x4_add(size, size));
  v128_t far = wasm_f32x4_sub(one, wasm_f32x4_div(wasm_f32x4_splat(2), wasm_f32x4_add(e, one)));
  v128_t near = wasm_f32x4_splat(-17.0f / 315);
  near = wasm_f32x4_add(wasm_f32x4_mul(near, s), wasm_f32x4_splat(2.0f / 15));
  near = wasm_f32x4_add(wasm_f32x4_mul(near, s), wasm_f32x4_splat(-1.0f / 3));
  near = wasm_f32x4_mul(wasm_f32x4_add(wasm_f32x4_mul(near, s), one), size);
  v128_t y = wasm_v128_bitselect(near, far, wasm_f32x4_lt(size, wasm_f32x4_splat(0.15f)));
  return wasm_v128_or(y, wasm_v128_and(x, wasm_i32x4_splat((int)0x80000000)));
}

static v128_t one_activation(v128_t x, int code, v128_t a, v128_t b) {
  v128_t zero = wasm_f32x4_splat(0);
  switch (code) {
    case LEAKY: return wasm_f32x4_mul(wasm_f32x4_add(wasm_f32x4_max(x, zero), wasm_f32x4_mul(wasm_f32x4_min(x, zero), a)), b);
    case TANH: return tanh4(x);
    case SIGMOID: return sigmoid4(x);
    case SILU: return wasm_f32x4_mul(x, sigmoid4(x));
    case CLAMP: return wasm_f32x4_min(wasm_f32x4_max(x, a), b);
    case RSQRT: return wasm_f32x4_div(wasm_f32x4_splat(1), wasm_f32x4_sqrt(x));
    case SQUARE: return wasm_f32x4_mul(x, x);
    case SQRT: return wasm_f32x4_sqrt(x);
    case EXP: return exp4(x);
    case AFFINE: return wasm_f32x4_add(wasm_f32x4_mul(x, a), b);
    case ABS: return wasm_f32x4_abs(x);
    default: return x;
  }
}

#define EACH(code) \
  case code: \
    for (; i + 4 <= n; i += 4) wasm_v128_store(y + i, one_activation(wasm_v128_load(x + i), code, va, vb)); \
    break;

void activate(float *y, const float *x, int64_t n, int code, float a, float b) {
  v128_t va = wasm_f32x4_splat(a), vb = wasm_f32x4_splat(b);
  int64_t i = 0;
  switch (code) { /* one loop each, in which the compiler drops all other cases */
    EACH(IDENTITY) EACH(LEAKY) EACH(TANH) EACH(SIGMOID) EACH(SILU) EACH(CLAMP) EACH(RSQRT) EACH(SQUARE) EACH(SQRT) EACH(EXP)
    EACH(AFFINE) EACH(ABS)
  }
  for (; i < n; i++) {
    v128_t v = one_activation(wasm_f32x4_splat(x[i]), code, va, vb);
    y[i] = wasm_f32x4_extract_lane(v, 0);
  }
}
