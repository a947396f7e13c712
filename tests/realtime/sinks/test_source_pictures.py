"""``--record``: the pictures as they came, beside what the loop makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.realtime.cli import main
from tests.data import shared_data
from tests.media import make_video

FAST = ("--quality", "fast", "--warmup", "0", "-q")


def pictures(path: Path) -> list[NDArray[np.int16]]:
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24").astype(np.int16) for frame in container.decode(video=0)
        ]


def tracks(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.type for stream in container.streams]


def far(a: list[Any], b: list[Any]) -> float:
    return max(float(np.abs(x - y).mean()) for x, y in zip(a, b, strict=True))


def test_it_holds_the_frames_and_the_sound_and_nothing_drawn(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "drive.mp4", 8, audio=True)
    seg, raw = tmp_path / "seg.mp4", tmp_path / "raw.mkv"
    looks = ("--view", "side-by-side", "--legend", "--hud")
    assert main([str(clip), str(seg), "--record", str(raw), *looks, *FAST]) == 0
    came = pictures(clip)
    assert far(pictures(raw), came) < 4
    assert pictures(seg)[0].shape[1] == 2 * came[0].shape[1]
    assert tracks(raw) == ["video", "audio"]


def test_it_does_without_other_outputs(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "drive.mp4", 4)
    assert main([str(clip), "--record", str(tmp_path / "raw.mp4"), *FAST]) == 0
    assert len(pictures(tmp_path / "raw.mp4")) == 4


def test_what_is_redacted_is_covered_here_as_well(tmp_path: Path) -> None:
    clip = shared_data() / "videos" / "seattlestreet1.mp4"
    raw, seg = tmp_path / "raw.mp4", tmp_path / "seg.mp4"
    how = ("--redact", "person,car", "--view", "input", "--no-audio", "--max-frames", "5")
    assert main([str(clip), str(seg), "--record", str(raw), *how, *FAST]) == 0
    assert far(pictures(raw), pictures(seg)) < 2
    assert far(pictures(raw), pictures(clip)[:5]) > 2


def test_of_several_sources_it_is_a_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [make_video(tmp_path / f"{name}.mp4", 3) for name in ("front", "rear")]
    typed = [word for clip in clips for word in ("--source", str(clip))]
    both = [*typed, "--out", str(tmp_path / "grid.mp4"), *FAST]
    assert main([*both, "--record", str(tmp_path / "raw.mp4")]) == 2
    assert "--record of several sources is a directory" in capsys.readouterr().err
    assert main([*both, "--record", f"{tmp_path / 'raw'}/"]) == 0
    for name, clip in zip(("front", "rear"), clips, strict=True):
        assert far(pictures(tmp_path / "raw" / f"{name}_input.mp4"), pictures(clip)) < 4


def test_it_is_cut_into_segments(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "drive.mp4", 60)
    how = ("--out", "null", "--segment", "1s")
    raw = tmp_path / "raw.mp4"
    assert main(["--source", str(clip), *how, "--record", str(raw), *FAST]) == 0
    parts = sorted(tmp_path.glob("raw_*.mp4"))
    assert len(parts) > 1
    assert sum(len(pictures(part)) for part in parts) == 60


@pytest.mark.parametrize("text", ["window", "a_%06d.png", "-", "udp://h:1", "x.webm"])
def test_what_is_no_video_file_is_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_video(tmp_path / "drive.mp4", 2)
    assert main([str(clip), "null", "--record", text, *FAST]) == 2
    assert text in capsys.readouterr().err


def test_an_existing_file_and_the_source_are_kept(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "drive.mp4", 2)
    (tmp_path / "raw.mp4").write_bytes(b"mine")
    assert main([str(clip), "null", "--record", str(tmp_path / "raw.mp4"), *FAST]) == 2
    assert (tmp_path / "raw.mp4").read_bytes() == b"mine"
    before = clip.read_bytes()
    assert main([str(clip), "null", "--record", str(clip), "-y", *FAST]) == 2
    assert clip.read_bytes() == before
