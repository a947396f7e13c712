from __future__ import annotations

from datetime import datetime, timedelta, timezone

from rtseg.realtime.frame import now_ns
from rtseg.realtime.wallclock import utc, utc_text


def test_a_moment_of_the_loop_is_a_time_of_day() -> None:
    here_ns = now_ns()
    assert abs(utc(here_ns) - datetime.now(timezone.utc)) < timedelta(minutes=10)
    assert utc(here_ns + 1_500_000_000) - utc(here_ns) == timedelta(seconds=1.5)


def test_the_text_is_in_utc_with_microseconds_whatever_the_zone() -> None:
    moment = datetime(2026, 1, 1, 0, 30, 0, 7, timezone(timedelta(hours=1)))
    assert utc_text(moment) == "2025-12-31T23:30:00.000007Z"
    assert datetime.fromisoformat(utc_text(moment).replace("Z", "+00:00")) == moment
