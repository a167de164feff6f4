"""What this machine can do at best, measured: multiply-adds a second, bytes a second, one call from Python.

With a C compiler on the path the peaks come from loops over registers and arrays of three sizes; without one the best
matrix product and copy of NumPy stand in. On a busy machine these come out lower, and so the floors higher.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.floors import Count

# Vectors of 64 bytes where AVX-512 is there, else of 32; the compiler contracts a*b+c to one instruction.
SOURCE = """
#include <stddef.h>
#ifdef __AVX512F__
#define W 16
#else
#define W 8
#endif
typedef float V __attribute__((vector_size(W * 4), aligned(4), may_alias));
#define BARRIER __asm__ volatile("" ::: "memory")
long width(void) { return W; }
float multiply_add(long n) {
  V a[12], b, c; float out = 0;
  for (int i = 0; i < W; i++) b[i] = 0.999f, c[i] = 1e-3f;
  for (int i = 0; i < 12; i++) a[i] = c * (float)i;
  for (long k = 0; k < n; k++) for (int i = 0; i < 12; i++) a[i] = a[i] * b + c;
  for (int i = 0; i < 12; i++) for (int j = 0; j < W; j++) out += a[i][j];
  return out;
}
void copy(float *to, const float *from, size_t n, long times) {
  for (; times; times--) { for (size_t i = 0; i < n; i += W) *(V *)(to + i) = *(const V *)(from + i); BARRIER; }
}
void scan(float *to, const float *from, size_t n, long times) {
  V s[8] = {};
  for (; times; times--) {
    for (size_t i = 0; i < n; i += 8 * W) for (int j = 0; j < 8; j++) s[j] += *(const V *)(from + i + j * W);
    BARRIER;
  }
  for (int j = 0; j < 8; j++) to[j] = s[j][0];
}
"""
FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC"]


@dataclass
class Machine:
    """Measured peaks. Bandwidths are of the memory, of the last cache and of the second."""

    processor: str
    cores: int
    gflops: float
    memory_gbs: float
    l3_gbs: float
    l2_gbs: float
    call_us: float
    l3_bytes: float
    l2_bytes: float
    method: str

    def floor(self, count: Count) -> dict[str, Any]:
        """The least milliseconds of a step, and what sets it."""
        # Three quarters: the rest of a cache is never ours.
        level = (
            "l2" if count.working < 0.75 * self.l2_bytes else "l3" if count.working < 0.75 * self.l3_bytes else "memory"
        )
        bandwidth = {"l2": self.l2_gbs, "l3": self.l3_gbs, "memory": self.memory_gbs}[level]
        bounds = {
            "FLOPs": count.flops / self.gflops / 1e6,
            "bytes": count.bytes / bandwidth / 1e6,
            "one call": self.call_us / 1e3,
        }
        bound = max(bounds, key=lambda name: bounds[name])
        return {"ms": bounds[bound], "bound": bound, "gflop": count.flops / 1e9, "mb": count.bytes / 1e6}

    def facts(self) -> dict[str, Any]:
        """As a dictionary, for JSON."""
        return asdict(self)


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cache_bytes(level: int, otherwise: float) -> float:
    """Size of a cache, of all its copies together; `otherwise` where the system does not say."""
    total, seen = 0, set()
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        try:
            if int((folder / "level").read_text()) != level:
                continue
            shared = (folder / "shared_cpu_list").read_text().strip()
            if shared not in seen:
                total += int((folder / "size").read_text().strip().rstrip("K")) * 1024
                seen.add(shared)
        except (OSError, ValueError):
            return otherwise
    return total or otherwise


def _together(work: Callable[[int], Any], threads: int) -> float:
    """Seconds of processor time that the slowest of `threads` threads needs for work(its number), all at once.

    Processor time, not the clock's: a thread that waits for a busy core says nothing about the core.
    """
    gate, seconds = threading.Barrier(threads), [0.0] * threads

    def body(number: int) -> None:
        gate.wait()
        start = time.thread_time()
        work(number)
        seconds[number] = time.thread_time() - start

    crew = [threading.Thread(target=body, args=(number,)) for number in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return max(seconds)


def _library() -> ctypes.CDLL | None:
    """The loops in C, compiled for this machine; None without a compiler that understands them."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "peaks.c"), Path(folder, "peaks.so")
        source.write_text(SOURCE)
        made = subprocess.run([compiler, *FLAGS, "-o", binary, source], capture_output=True)
        if made.returncode:
            return None
        library = ctypes.CDLL(str(binary))
    library.multiply_add.argtypes = [ctypes.c_long]
    library.multiply_add.restype = ctypes.c_float
    for loop in (library.copy, library.scan):
        loop.argtypes, loop.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long], None
    return library


def _bandwidth(library: ctypes.CDLL, threads: int, nbytes: int, total: float, repeats: int) -> float:
    """Best GB/s of copying or reading `nbytes` per thread; `total` bytes are moved in a repeat."""
    import numpy as np

    half = nbytes // 8 // 128 * 128  # floats of one of two arrays, a multiple of what a loop takes at once
    arrays = np.ones((threads, 2 * half + 16), np.float32)
    rounds = max(1, int(total / nbytes / threads))

    def copy(number: int) -> None:
        start = arrays[number].ctypes.data
        library.copy(start + 4 * half, start, half, rounds)

    def scan(number: int) -> None:
        start = arrays[number].ctypes.data
        library.scan(start + 8 * half, start, 2 * half, rounds)

    moved = threads * 8 * half * rounds
    return max(moved / _together(loop, threads) / 1e9 for _ in range(repeats) for loop in (copy, scan))


def _numpy_peaks(repeats: int) -> tuple[float, float]:
    """GFLOP/s of a matrix product and GB/s of a copy, as NumPy reaches them."""
    import numpy as np

    a = np.ones((1024, 1024), np.float32)
    b, out = a.copy(), a.copy()
    source = np.ones(32 << 20, np.float32)
    target = source.copy()

    def seconds(work: Callable[[], Any]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    product = min(seconds(lambda: np.matmul(a, b, out=out)) for _ in range(4 * repeats))
    copy = min(seconds(lambda: np.copyto(target, source)) for _ in range(repeats))
    return 2 * 1024**3 / product / 1e9, 8 * source.size / copy / 1e9


def _call_us() -> float:
    """Microseconds of calling a native function from Python: the clock itself."""
    clock, best = time.perf_counter, float("inf")
    for _ in range(20):
        start = clock()
        for _ in range(100_000):
            clock()
        best = min(best, clock() - start)
    return best / 100_000 * 1e6


def measure(threads: int = 0, repeats: int = 5) -> Machine:
    """The peaks with `threads` threads (0: one per core); the best of the repeats counts."""
    threads = threads or cores()
    library = _library()
    if library is None:
        gflops, memory = _numpy_peaks(repeats)
        l3 = l2 = memory
    else:
        steps = 20_000_000
        flops = 2 * 12 * library.width() * steps * threads
        gflops = max(
            flops / _together(lambda number: library.multiply_add(steps), threads) / 1e9 for _ in range(repeats)
        )
        memory = _bandwidth(library, threads, 128 << 20, 1e9, repeats)
        l3 = _bandwidth(library, threads, 4 << 20, 4e9, repeats)
        l2 = _bandwidth(library, threads, 256 << 10, 4e9, repeats)
    return Machine(
        processor=cpu_name(), cores=cores(), gflops=gflops, memory_gbs=memory, l3_gbs=max(l3, memory),
        l2_gbs=max(l2, l3, memory), call_us=_call_us(), l3_bytes=_cache_bytes(3, 32e6), l2_bytes=_cache_bytes(2, 1e6),
        method="loops in C" if library else "NumPy's matrix product and copy",
    )  # fmt: skip
