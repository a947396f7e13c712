"""A CUDA driver made for the tests, on the host: the real Python package runs on it.

It keeps what a stream is given until an event is waited for, so that whoever reads too early
reads the wrong bytes; it answers only threads that pushed the context; it counts what lives.
Kernels are those of ``libkernels.so`` (:mod:`tests.engines.host_kernels`), whatever image is
loaded, as long as it is machine code or PTX.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.engines.cuda_layer import Package

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef void (*Work)(void *);
typedef void (*Run)(unsigned, unsigned, unsigned, unsigned, const void *, int);
typedef struct Op { int kind; void *to; const void *from; size_t count; Work work; void *data;
                    struct Op *next; Run run; unsigned grid[4]; char job[128]; } Op;
typedef struct { Run run; size_t size; } Kernel;
typedef struct { void *library; Kernel kernels[4]; int count; } Module;
typedef struct { Op *first, **last; int capturing; } Stream;
typedef struct { Stream *stream; double ms; } Event;
typedef struct { Op *first, **last; } Graph;
enum { COPY, CALL, RECORD, RUN };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long live[7]; /* memory, pinned, streams, events, graphs, contexts, modules */
static __thread int depth;
static char failing[64];
static int fail_code, launches;

static void count(int what, int by) {
  pthread_mutex_lock(&lock); live[what] += by; pthread_mutex_unlock(&lock); }
long host_live(int what) { return live[what]; }
int host_launches(void) { return launches; }
void host_fail(const char *name, int code) { strncpy(failing, name, 63); fail_code = code; }
#define CALLED(name) if (!strcmp(failing, #name) && fail_code) return fail_code; \
                     if (depth < 1) return 201;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6; }
static void append(Op ***last, Op op) { Op *one = malloc(sizeof op); *one = op; one->next = 0;
  **last = one; *last = &one->next; }
static void perform(Op *op) {
  if (op->kind == COPY) memcpy(op->to, op->from, op->count);
  if (op->kind == CALL) op->work(op->data);
  if (op->kind == RUN) op->run(op->grid[0], op->grid[1], op->grid[2], op->grid[3], op->job, 0);
  if (op->kind == RECORD) ((Event *)op->to)->ms = now(); }
static void flush(Stream *s) { while (s->first) { Op *op = s->first; perform(op);
  s->first = op->next; if (!s->first) s->last = &s->first; free(op); } }

int cuInit(unsigned flags) { return 0; }
int cuGetExportTable(const void **table, const void *id) { /* NVRTC asks for one */
  *table = 0; return 500; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
  strncpy(name, "Host GPU", length); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 9 : 0; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
  count(5, 1); *context = (void *)0x77; return 0; }
int cuDevicePrimaryCtxRelease(int device) { count(5, -1); return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return cuDevicePrimaryCtxRelease(device); }
int cuCtxPushCurrent(void *context) { depth++; return context == (void *)0x77 ? 0 : 201; }
int cuCtxPopCurrent(void **context) { if (depth < 1) return 201;
  depth--; if (context) *context = (void *)0x77; return 0; }
int cuMemAlloc(uint64_t *address, size_t size) { CALLED(cuMemAlloc)
  count(0, 1); *address = (uint64_t)malloc(size); memset((void *)*address, 9, size); return 0; }
int cuMemFree(uint64_t address) { CALLED(cuMemFree) count(0, -1); free((void *)address); return 0; }
int cuMemHostAlloc(void **p, size_t size, unsigned flags) { CALLED(cuMemHostAlloc)
  count(1, 1); *p = malloc(size); return 0; }
int cuMemFreeHost(void *p) { CALLED(cuMemFreeHost) count(1, -1); free(p); return 0; }
int cuMemGetInfo(size_t *free_, size_t *total) { CALLED(cuMemGetInfo)
  *free_ = 1 << 20; *total = 1 << 30; return 0; }
int cuStreamCreate(Stream **s, unsigned flags) { CALLED(cuStreamCreate)
  count(2, 1); *s = calloc(1, sizeof **s); (*s)->last = &(*s)->first; return 0; }
int cuStreamDestroy(Stream *s) { CALLED(cuStreamDestroy) flush(s);
  count(2, -1); free(s); return 0; }
int cuEventCreate(Event **e, unsigned flags) { CALLED(cuEventCreate)
  count(3, 1); *e = calloc(1, sizeof **e); return 0; }
int cuEventDestroy(Event *e) { CALLED(cuEventDestroy) count(3, -1); free(e); return 0; }
int cuEventRecord(Event *e, Stream *s) { CALLED(cuEventRecord) e->stream = s;
  append(&s->last, (Op){RECORD, e}); return 0; }
int cuEventSynchronize(Event *e) { CALLED(cuEventSynchronize) flush(e->stream); return 0; }
int cuEventElapsedTime(float *ms, Event *a, Event *b) { CALLED(cuEventElapsedTime)
  *ms = (float)(b->ms - a->ms); return 0; }
int cuMemcpyHtoDAsync(uint64_t to, const void *from, size_t n, Stream *s) {
  CALLED(cuMemcpyHtoDAsync) append(&s->last, (Op){COPY, (void *)to, from, n}); return 0; }
int cuMemcpyDtoHAsync(void *to, uint64_t from, size_t n, Stream *s) {
  CALLED(cuMemcpyDtoHAsync) append(&s->last, (Op){COPY, to, (void *)from, n}); return 0; }
int cuLaunchHostFunc(Stream *s, Work work, void *data) { CALLED(cuLaunchHostFunc)
  append(&s->last, (Op){CALL, 0, 0, 0, work, data}); return 0; }
int cuStreamBeginCapture(Stream *s, int mode) { CALLED(cuStreamBeginCapture)
  flush(s); s->capturing = 1; return 0; }
int cuStreamEndCapture(Stream *s, Graph **g) { CALLED(cuStreamEndCapture)
  count(4, 1); *g = calloc(1, sizeof **g); (*g)->first = s->first;
  s->first = 0; s->last = &s->first; s->capturing = 0; return 0; }
int cuGraphInstantiateWithFlags(Graph **exec, Graph *g, unsigned long long flags) {
  CALLED(cuGraphInstantiateWithFlags) count(4, 1); *exec = calloc(1, sizeof **exec); **exec = *g;
  g->first = 0; return 0; }
int cuGraphDestroy(Graph *g) { CALLED(cuGraphDestroy) count(4, -1); free(g); return 0; }
int cuGraphExecDestroy(Graph *g) { CALLED(cuGraphExecDestroy) count(4, -1);
  while (g->first) { Op *op = g->first; g->first = op->next; free(op); } free(g); return 0; }
int cuGraphLaunch(Graph *g, Stream *s) { CALLED(cuGraphLaunch) launches++;
  for (Op *op = g->first; op; op = op->next) append(&s->last, *op); return 0; }
int cuModuleLoadData(Module **m, const char *image) { CALLED(cuModuleLoadData)
  if (strncmp(image, "\177ELF", 4) && strncmp(image, "//", 2)) return 200;
  void *library = dlopen("libkernels.so", RTLD_NOW); if (!library) return 209;
  count(6, 1); *m = calloc(1, sizeof **m); (*m)->library = library; return 0; }
int cuModuleUnload(Module *m) { CALLED(cuModuleUnload) count(6, -1); free(m); return 0; }
int cuModuleGetFunction(Kernel **k, Module *m, const char *name) { CALLED(cuModuleGetFunction)
  char symbol[80]; *k = &m->kernels[m->count++];
  snprintf(symbol, sizeof symbol, "host_%s", name); (*k)->run = (Run)dlsym(m->library, symbol);
  snprintf(symbol, sizeof symbol, "size_%s", name);
  size_t (*size)(void) = (size_t (*)(void))dlsym(m->library, symbol);
  if (!size || !(*k)->run) return 500;
  (*k)->size = size(); return (*k)->size > 128; }
int cuLaunchKernel(Kernel *k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, Stream *s, void **arguments, void **extra) {
  CALLED(cuLaunchKernel) if (gz != 1 || bz != 1 || bx * by > 1024) return 1;
  const void *job = arguments ? arguments[0] : 0;
  if (extra) { /* PyCUDA's way: all arguments as one run of bytes */
    if (arguments || extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4]) return 1;
    job = extra[1]; if (*(size_t *)extra[3] != k->size) return 1; }
  Op op = {RUN, .run = k->run, .grid = {gx, gy, bx, by}}; memcpy(op.job, job, k->size);
  append(&s->last, op); return 0; }

/* PyCUDA is linked with the driver, by the names that its header gives the calls. */
#define ALSO(name, other) extern __typeof__(name) other __attribute__((alias(#name)));
ALSO(cuCtxPushCurrent, cuCtxPushCurrent_v2) ALSO(cuCtxPopCurrent, cuCtxPopCurrent_v2)
ALSO(cuMemAlloc, cuMemAlloc_v2) ALSO(cuMemFree, cuMemFree_v2) ALSO(cuMemGetInfo, cuMemGetInfo_v2)
ALSO(cuStreamDestroy, cuStreamDestroy_v2) ALSO(cuEventDestroy, cuEventDestroy_v2)
ALSO(cuEventElapsedTime, cuEventElapsedTime_v2)
ALSO(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2) ALSO(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2)
int cuCtxGetDevice(int *device) { if (depth < 1) return 201; *device = 0; return 0; }
int cuModuleLoadDataEx(Module **m, const char *image, unsigned options, int *names, void **values) {
  int code = cuModuleLoadData(m, image); /* what is said of it: nothing, or what is no text */
  for (unsigned n = 0; n < options; n++) {
    if (names[n] == 5 && code == 999) *(char *)values[n] = 0xff;
    if (names[n] == 4 || names[n] == 6) values[n] = (void *)(size_t)(code == 999); }
  return code; }
int cuFuncSetBlockShape(Kernel *k, int x, int y, int z) { CALLED(cuFuncSetBlockShape) return 0; }
int cuDeviceComputeCapability(int *major, int *minor, int device) {
  *major = 8; *minor = 9; return 0; }
int cuGetErrorString(int code, const char **said) {
  *said = code == 2 ? "out of memory" : code == 700 ? "an illegal memory access was encountered"
        : code == 719 ? "unspecified launch failure" : code == 201 ? "invalid device context"
        : "invalid argument"; return 0; }

int cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags,
                        int *status) {
  *address = dlsym(RTLD_DEFAULT, name);
  if (!*address) { void *self = dlopen("libcuda.so.1", RTLD_LAZY); *address = dlsym(self, name); }
  if (status) *status = *address ? 0 : 1;
  return *address ? 0 : 500; }
"""

WHAT = ("memory", "pinned", "streams", "events", "graphs", "contexts", "modules")


def build_driver(folder: Path) -> Path | None:
    """Compile the driver as ``libcuda.so.1`` in a folder; None without a C compiler."""
    if shutil.which("cc") is None:
        return None
    source, library = folder / "driver.c", folder / "libcuda.so.1"
    source.write_text(SOURCE)
    subprocess.run(
        [
            *("cc", "-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1"),
            *(str(source), "-o", str(library), "-ldl", "-lpthread"),
        ],
        check=True,
    )
    return library


def run_suites(folder: Path, *names: str, package: Package) -> None:
    """Run test files of this folder on the driver in a folder, in a process of their own.

    Args:
        folder: holds ``libcuda.so.1``, of :func:`build_driver`.
        names: the files' names.
        package: which talks to the driver.
    """
    module = {"cuda-python": "cuda", "pycuda": "pycuda"}[package]
    if importlib.util.find_spec(module) is None:
        how = "; bash tools/pycuda.sh builds it" if package == "pycuda" else ""
        pytest.skip(f"needs {package}{how}")
    suites = [Path(__file__).with_name(name) for name in names]
    found = os.environ.get("LD_LIBRARY_PATH")
    path = os.pathsep.join([str(folder), *([found] if found else [])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, suites)],
        env={**os.environ, "LD_LIBRARY_PATH": path, "RTSEG_TEST_CUDA": package},
        cwd=suites[0].parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    for line in done.stdout.splitlines():
        assert not line.startswith("SKIPPED") or "PyCUDA" in line


class HostDriver:
    """The driver as it is loaded in this process."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.library.host_live.restype = ctypes.c_long
        self.library.cuLaunchHostFunc.argtypes = [ctypes.c_void_p] * 3

    def live(self) -> dict[str, int]:
        """Return how many things of each kind were made and not given back."""
        return {name: self.library.host_live(number) for number, name in enumerate(WHAT)}

    def fail(self, name: str, code: int) -> None:
        """Let a call fail with a code from now on; 0 ends that."""
        self.library.host_fail(name.encode(), code)
