"""The loop's clock as the time of day, so that a run can be laid beside other recordings."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Read once, so that the times of all sources of a process have the same distance on both clocks,
# and do not jump where the system's clock is set meanwhile.
_LOOP_NS, _WALL_NS = time.perf_counter_ns(), time.time_ns()


def utc(loop_ns: int) -> datetime:
    """Return the time of day, in UTC, at a moment of :func:`~rtseg.realtime.frame.now_ns`."""
    return _EPOCH + timedelta(microseconds=(_WALL_NS + loop_ns - _LOOP_NS) // 1000)


def utc_text(moment: datetime) -> str:
    """Return a time of day in UTC as ISO 8601 has it, with microseconds.

    >>> utc_text(datetime(2026, 11, 22, 14, 5, 9, tzinfo=timezone.utc))
    '2026-11-22T14:05:09.000000Z'
    """
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
