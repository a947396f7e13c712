"""CUDA C compiled for one GPU by NVIDIA's run-time compiler, which needs no GPU to do so."""

from __future__ import annotations

from typing import Any

from rtseg.engines.errors import EngineError

INSTALL = "pip install nvidia-cuda-nvrtc (rt-seg[tensorrt-cu12] for a driver of CUDA 12)"

OPTIONS = ("--fmad=false",)
"""Every product is rounded, so that all GPUs, and the tests on the host, give the same bytes."""


def compile_cuda(source: str, capability: str, *, ptx: bool = False) -> bytes:
    """Compile a source for a GPU.

    Args:
        source: CUDA C.
        capability: the GPU's compute capability, as ``8.9``.
        ptx: whether to give PTX, which newer GPUs take, too, where machine code could be had.

    Returns:
        Machine code of the GPU (a cubin); PTX where the compiler does not know the GPU itself
        but an older one. PTX ends with a zero byte.

    Raises:
        EngineError: ``BACKEND_MISSING`` without NVRTC, ``ENGINE_UNSUPPORTED`` where the GPU is
            too old for it, ``ENGINE_FAILED`` with the compiler's first words where the source
            is wrong.

    Example:
        >>> image = compile_cuda(source, "8.9")                         # doctest: +SKIP
    """
    major, minor = capability.split(".")
    wanted = 10 * int(major) + int(minor)
    known = sorted(int(arch) for arch in _call("nvrtcGetSupportedArchs"))
    fitting = [arch for arch in known if arch <= wanted]
    if not fitting:
        raise EngineError(
            f"NVRTC compiles for compute capability {known[0] / 10} and newer. "
            f"Received: {capability}",
            reason="ENGINE_UNSUPPORTED",
        )
    exact = wanted in known and not ptx
    kind = "sm" if exact else "compute"
    program = _call("nvrtcCreateProgram", source.encode(), b"rtseg.cu", 0, [], [])
    try:
        options = [f"--gpu-architecture={kind}_{fitting[-1]}".encode()]
        options += [option.encode() for option in OPTIONS]
        _call("nvrtcCompileProgram", program, len(options), options, program=program)
        return _text(program, "CUBIN" if exact else "PTX")
    finally:
        _nvrtc().nvrtcDestroyProgram(program)


def compiler_version() -> tuple[int, int]:
    """Return the version of CUDA that the compiler is of, as (13, 0).

    Raises:
        EngineError: ``BACKEND_MISSING`` without NVRTC.
    """
    major, minor = _call("nvrtcVersion")
    return int(major), int(minor)


def _nvrtc() -> Any:
    from cuda.bindings import nvrtc

    return nvrtc


def _call(name: str, *arguments: Any, program: Any = None) -> Any:
    """Call NVRTC; return what it gives besides its error code."""
    try:
        code, *results = getattr(_nvrtc(), name)(*arguments)
    except (ImportError, RuntimeError) as error:  # the package's own: no library, or no such call
        raise EngineError(
            f"no compiler for the GPU: {INSTALL}", reason="BACKEND_MISSING"
        ) from error
    if int(code):
        said = ""
        if program is not None:
            said = ": " + " ".join(_text(program, "ProgramLog").decode(errors="replace").split())
        raise EngineError(
            f"NVRTC failed ({name}: {getattr(code, 'name', code)}){said[:300]}",
            reason="ENGINE_FAILED",
        )
    if len(results) > 1:
        return tuple(results)
    return results[0] if results else None


def _text(program: Any, what: str) -> bytes:
    """Return one of a program's results, by the name that NVRTC's calls have for it."""
    size = int(_call(f"nvrtcGet{what}Size", program))
    buffer = b" " * (size + 1)  # of one byte or none, Python has a single one for everybody
    _call(f"nvrtcGet{what}", program, buffer)
    return buffer[:size].rstrip(b"\0") if what == "ProgramLog" else buffer[:size]
