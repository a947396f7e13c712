"""What an output file says of the time of day at which it begins."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from rtseg.realtime.frame import Frame, SourceInfo
from rtseg.realtime.wallclock import utc_text

if TYPE_CHECKING:
    from av.container import OutputContainer


def say_when(
    container: OutputContainer, source: SourceInfo, first: Frame, origin_s: Fraction
) -> None:
    """Give a file its ``creation_time`` before its header is written: the time of day at its 0.

    Of a live source it follows from when its first frame came; of a file from what that file
    says of itself. Where nothing is known, nothing is said.

    Args:
        container: the file.
        source: what is recorded.
        first: the first frame that is written.
        origin_s: the source's time that is 0 in the file, in seconds.
    """
    if source.live:
        past = timedelta(seconds=float(first.pts * first.time_base - origin_s))
        container.metadata["creation_time"] = utc_text(first.captured_at - past)
    elif source.created_at is not None:
        begun_at = source.created_at + timedelta(seconds=float(origin_s))
        container.metadata["creation_time"] = utc_text(begun_at)
