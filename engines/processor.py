"""What the processor at hand can do, as Linux says it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@cache
def processor_flags() -> frozenset[str]:
    """Return the names of the first core's extensions (``avx512_vnni``, ``amx_bf16``, …).

    They are those of x86; there are none elsewhere, and none where Linux does not say.
    """
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())


def adds_bytes_exactly() -> bool:
    """Return whether products of an 8-bit unsigned and a signed number add up exactly.

    AVX-512 VNNI adds four of them in 32 bits. Before it, two were added in 16, which
    255 x 127 twice is too much for.
    """
    return "avx512_vnni" in processor_flags()


def multiplies_bf16_matrices() -> bool:
    """Return whether BF16 is much faster than FP32 (AMX), not merely half its size."""
    return "amx_bf16" in processor_flags()
