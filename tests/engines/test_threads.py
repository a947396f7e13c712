from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.threads import available_cores, engine_threads


@given(st.integers(1, 1024))
def test_the_network_gets_at_least_one_thread_and_never_more_than_there_are(cores: int) -> None:
    threads = engine_threads(cores)
    assert 1 <= threads <= cores
    if cores > 2:
        assert threads < cores, "decoder and encoder get nothing"


@given(st.integers(1, 1023))
def test_more_cores_never_mean_fewer_threads(cores: int) -> None:
    assert engine_threads(cores) <= engine_threads(cores + 1)


def test_no_core_is_an_error() -> None:
    with pytest.raises(ValueError, match="Received: 0"):
        engine_threads(0)


@pytest.mark.parametrize(
    ("limit", "most"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 10**6), ("rubbish", 10**6)],
)
def test_a_containers_quota_counts(tmp_path: Path, limit: str, most: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(limit)
    assert 1 <= available_cores(file) <= most


def test_without_cgroups_the_machine_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "absent") >= 1
