"""How many CPU threads a network gets, so that decoder and encoder keep theirs."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def available_cores(cgroup_limit: Path | None = None) -> int:
    """Return the number of cores this process may use, at least 1.

    Affinity and a container's CPU quota (cgroup v2) count, not only what the machine has.

    Args:
        cgroup_limit: where the quota stands; None for :data:`CGROUP_LIMIT`.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on macOS and Windows
        cores = os.cpu_count() or 1
    try:
        quota, period = (cgroup_limit or CGROUP_LIMIT).read_text().split()[:2]
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no cgroup v2: no quota
    return max(1, cores)


def engine_threads(cores: int) -> int:
    """Return how many of ``cores`` the network computes on.

    A quarter is left to decoding, drawing and encoding. With one or two cores nothing is
    left out: there the network is two thirds of all work and would only wait.

    Raises:
        ValueError: ``cores`` is below 1.

    Example:
        >>> [engine_threads(cores) for cores in (1, 2, 3, 4, 8, 16)]
        [1, 2, 2, 3, 6, 12]
    """
    if cores < 1:
        raise ValueError(f"a machine has at least one core. Received: {cores}")
    return cores if cores <= 2 else cores - max(1, cores // 4)
