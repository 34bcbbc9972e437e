/* A heap that only grows, with marks to return to: a page loads one model and plans it a few times. */

#include "runtime.h"

#define PAGE 65536

extern unsigned char __heap_base; /* set by the linker: the end of static data and stack */
static int64_t top;

void fill_zero(void *at, int64_t bytes) {
  uint8_t *p = at;
  int64_t i = 0;
  for (; i + 16 <= bytes; i += 16) wasm_v128_store(p + i, wasm_i32x4_splat(0));
  for (; i < bytes; i++) ((volatile uint8_t *)p)[i] = 0; /* volatile: else the compiler calls memset, and there is none */
}

void *allocate(int64_t bytes) {
  if (!top) top = (int64_t)(uintptr_t)&__heap_base;
  int64_t start = (top + 15) & ~(int64_t)15, end = start + bytes;
  int64_t pages = (int64_t)__builtin_wasm_memory_size(0);
  if (bytes < 0 || end > (int64_t)4294901760) return 0;
  if (end > pages * PAGE && (int32_t)__builtin_wasm_memory_grow(0, (end - pages * PAGE + PAGE - 1) / PAGE) < 0) return 0;
  top = end;
  fill_zero((void *)(uintptr_t)start, bytes);
  return (void *)(uintptr_t)start;
}

void *heap_mark(void) { return (void *)(uintptr_t)top; }

void heap_reset(void *mark) { top = (int64_t)(uintptr_t)mark; }
