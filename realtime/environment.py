"""What the loop runs on: processor, cores, memory, versions."""

from __future__ import annotations

import platform
import resource
import sys

from rtseg.engines.versions import own_version, version_of

_RUNTIMES = (
    *("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13-bindings"),
    *("cuda-bindings", "pycuda"),
)
_LIBRARIES = ("av", "opencv-python", "numpy", *_RUNTIMES)


def version_lines(program: str) -> list[str]:
    """Return what ``--version`` prints: a command's version, and each runtime's."""
    runtimes = [f"{name} {version}" for name, version in runtime_versions().items()]
    return [f"{program} {own_version()}", *runtimes]


def runtime_versions() -> dict[str, str]:
    """Return the engine runtimes that are installed, with their versions."""
    return {name: found for name in _RUNTIMES if (found := version_of(name))}


def library_versions() -> dict[str, str]:
    """Return the installed versions of everything a figure may depend on."""
    versions = {name: found for name in _LIBRARIES if (found := version_of(name))}
    return {"rt-seg": own_version(), "python": platform.python_version(), **versions}


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory_mib() -> float:
    """Return the highest resident memory of this process so far, in MiB."""
    try:
        # ru_maxrss of a process starts at what the one that started it had; VmHWM at nothing.
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024.0
    except (OSError, ValueError, IndexError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)


def cpu_seconds() -> float:
    """Return the CPU time this process has used so far, user and system, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
