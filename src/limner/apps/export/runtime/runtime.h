/* An interpreter of trained networks for WebAssembly with 128-bit SIMD: types that all files share.

A program is a list of operators over buffers. A buffer is a map of h x w pixels with c channels, channels last (a row of F
numbers is 1 x 1 x F); the batch is always one picture. `apps/export/program.py` writes programs and states their format. */

#pragma once
#include <stdint.h>
#include <wasm_simd128.h>

#define MAX_INPUTS 16 /* of one operator */
#define STRIP 512     /* output pixels whose input addresses a convolution looks up at a time */

enum { CONSTANT, INPUT, PICTURE /* an input whose height and width `plan` is given */, COMPUTED };

enum { /* operators; the same numbers in program.py */
  CONV = 1, ACTIVATE, BINARY, MULTIPLY_ADD, UPSAMPLE, POOL, SHUFFLE, INSTANCE_NORM, CONCATENATE, REDUCE, SOFTMAX, MATMUL, PAD,
  COPY, SLICE, RESHAPE,
};

enum { /* activations y = f(x) with two parameters a and b */
  IDENTITY, LEAKY /* slope a, gain b */, TANH, SIGMOID, SILU, CLAMP /* [a,b] */, RSQRT, SQUARE, SQRT, EXP, AFFINE /* a x + b */, ABS,
};

enum { ADD, SUBTRACT, MULTIPLY, DIVIDE };

typedef struct {
  int kind, h, w, c;
  float *data;
  int root, first, last; /* the buffer whose memory it shares; first and last operator that needs that memory */
  int64_t offset;        /* in floats from the start of the arena */
} Buffer;

typedef struct {
  int taps;
  int *dy, *dx;     /* [taps] rows and columns from the base position in the input */
  int y0, x0;       /* first output position */
  const float *weights; /* [groups][blocks][taps][inputs][nr] */
} Phase;

typedef struct {
  int outputs, inputs, groups;   /* outputs and inputs of one group */
  int kh, kw, sy, sx, py, px, dy, dx, transposed;
  int nr, blocks, phases;        /* output channels of a block, blocks of a group */
  const float *bias;             /* [groups * blocks * nr] */
  Phase *phase;
} Conv;

typedef struct {
  int code, out;
  const int32_t *args;
  Conv *conv;
} Op;

extern Buffer *buffers;

/* memory.c */
void *allocate(int64_t bytes); /* zeroed and 16-byte aligned; 0 when memory is exhausted */
void *heap_mark(void);
void heap_reset(void *mark);
void fill_zero(void *at, int64_t bytes);

/* numbers.c */
v128_t exp4(v128_t x);
void activate(float *y, const float *x, int64_t n, int code, float a, float b); /* y and x may be the same */

/* conv.c */
Conv *prepare_conv(const int32_t *args, const uint8_t *blob);
void conv_shape(const Conv *conv, const Buffer *in, Buffer *out);
void run_conv(const Conv *conv, const Buffer *in, Buffer *out, int code, float a, float b, const float *zeros, const float **table);

/* tiles.c: a tile is some pixels times one block of output channels */
void tile_4x8(const float *const *a, const float *w, int taps, int n, v128_t *sum);  /* 4 pixels, 8 channels */
void tile_8x4(const float *const *a, const float *w, int taps, int n, v128_t *sum);  /* 8 pixels, 4 channels */
void tile_1x8(const float *const *a, const float *w, int taps, int n, v128_t *sum);  /* 1 pixel, 8 channels */

/* maps.c, rows.c */
void run_upsample(const Buffer *in, Buffer *out, int scale, int bilinear);
void run_pool(const Buffer *in, Buffer *out, int size, int maximum);
void run_shuffle(const Buffer *in, Buffer *out, int factor, int up);
void run_instance_norm(const Buffer *in, Buffer *out, const float *weight, const float *bias, float eps);
void run_pad(const Buffer *in, Buffer *out, int top, int left, int mode);
void run_copy(const Buffer *in, Buffer *out, const int32_t *args);
void run_slice(const Buffer *in, Buffer *out, int start);
void run_binary(const Buffer *x, const Buffer *y, Buffer *out, int kind);
void run_multiply_add(const Buffer *x, const Buffer *scale, const Buffer *shift, Buffer *out);
void run_reduce(const Buffer *in, Buffer *out, int spatial, int mean);
void run_softmax(const Buffer *in, Buffer *out);
void run_matmul(const Buffer *x, const Buffer *y, Buffer *out);

static inline float float_of(int32_t bits) {
  union { int32_t i; float f; } u = {bits};
  return u.f;
}

static inline int at_least(int x, int low) { return x < low ? low : x; }
static inline int at_most(int x, int high) { return x > high ? high : x; }
