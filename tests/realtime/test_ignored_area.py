"""``--ignore-mask``: class ids are void where a picture is white."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from rtseg.realtime.cli import main
from rtseg.realtime.errors import UsageError
from rtseg.realtime.ignored_area import IgnoredArea, read_mask
from rtseg.realtime.refine import Seen
from tests.data import shared_data
from tests.media import make_video
from tests.realtime.parts import street_frame

FAST = ("--quality", "fast", "--warmup", "0", "-q")


def save(path: Path, picture: Any) -> Path:
    done, data = cv2.imencode(path.suffix, np.asarray(picture, np.uint8))
    assert done
    path.write_bytes(data.tobytes())
    return path


def lower_half(channels: int = 1) -> Any:
    mask = np.zeros((4, 6, channels), np.uint8)
    mask[2:, :, -1] = 255
    return mask


@pytest.mark.parametrize(
    "picture", [lower_half(), lower_half(3), lower_half(4)], ids=["gray", "color", "alpha"]
)
def test_void_is_where_it_is_white_or_opaque(tmp_path: Path, picture: Any) -> None:
    area = IgnoredArea(read_mask(save(tmp_path / "mask.png", picture)))
    labels = np.full((10, 14), 3, np.uint8)
    (seen,) = area.push(Seen(street_frame(0, "yuv420p"), labels, labels))
    assert (seen.labels[:5] == 3).all()
    assert (seen.labels[5:] == 255).all()
    assert (labels == 3).all()  # the network's answer is somebody else's as well


def huge_png() -> bytes:
    """Return the beginning of 10^10 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no such file"),
        (b"", "no 8-bit picture"),
        (b"no picture", "no 8-bit picture"),
        (huge_png(), "no 8-bit picture"),
        (np.zeros((4, 4)), "it leaves out nothing"),
        (np.full((4, 4), 255), "it leaves out everything"),
    ],
    ids=["absent", "empty", "text", "huge", "black", "white"],
)
def test_what_is_no_mask_is_one_line(tmp_path: Path, content: Any, line: str) -> None:
    path = tmp_path / "mask.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save(path, content)
    with pytest.raises(UsageError, match=line) as caught:
        read_mask(path)
    assert "\n" not in str(caught.value)


def shares(path: Path) -> list[dict[str, float]]:
    return [json.loads(line)["classes"] for line in path.read_text().splitlines()]


def test_the_command_leaves_the_area_out_of_picture_and_lines(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "drive.mp4", 3)
    mask = save(tmp_path / "mask.png", lower_half())
    lines, out = tmp_path / "a.jsonl", tmp_path / "a.mkv"
    typed = [str(clip), str(out), "--jsonl", str(lines), "--ignore-mask", str(mask)]
    assert main([*typed, "--alpha", "1", *FAST]) == 0
    assert all(share["void"] >= 0.5 for share in shares(lines))
    with av.open(str(out)) as seen, av.open(str(clip)) as came:
        for a, b in zip(seen.decode(video=0), came.decode(video=0), strict=True):
            drawn, plain = (
                frame.to_ndarray(format="rgb24").astype(int)[: frame.height] for frame in (a, b)
            )
            half = drawn.shape[0] // 2
            assert np.abs(drawn[half + 4 :] - plain[half + 4 :]).mean() < 5
            assert np.abs(drawn[: half - 4] - plain[: half - 4]).mean() > 20


def test_what_is_left_out_is_covered_all_the_same(tmp_path: Path) -> None:
    clip = shared_data() / "videos" / "seattlestreet1.mp4"
    mask = save(tmp_path / "mask.png", lower_half())
    pictures = []
    for name, more in (("a", ()), ("b", ("--ignore-mask", str(mask)))):
        out = tmp_path / f"{name}.mp4"
        how = ("--redact", "person,car", "--view", "input", "--no-audio", "--max-frames", "4")
        assert main([str(clip), str(out), *how, *more, *FAST]) == 0
        with av.open(str(out)) as container:
            pictures.append([f.to_ndarray(format="gray") for f in container.decode(video=0)])
    assert np.array_equal(pictures[0], pictures[1])
