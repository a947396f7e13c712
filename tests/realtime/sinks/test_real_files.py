"""Real and odd files, from the source through rendering into a file and back."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.frame import Rendered
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.sinks.video import VideoFileSink
from rtseg.realtime.sources.resolve import open_source
from tests.data import find_shared_data, needs_shared_data, shared_data
from tests.realtime.sinks.parts import SPEC, read

LIMIT = 60

_FOLDER = find_shared_data()
_FILES = (
    sorted(
        str(path.relative_to(_FOLDER))
        for place in ("videos", "videos/odd")
        for path in (_FOLDER / place).iterdir()
        if path.is_file()
    )
    if _FOLDER is not None
    else []
)


@needs_shared_data
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", _FILES)
def test_times_sound_and_size_survive(tmp_path, name, suffix):
    out = tmp_path / f"out{suffix}"
    times, sizes = [], {}

    def note(packets):
        for packet in packets:
            sizes.setdefault(packet.stream_index, []).append(packet.size)
        return packets

    with open_source(str(shared_data(name))) as source, VideoFileSink(out) as sink:
        info = source.info
        # streams may not be looked at once their file is closed
        kept = [s.index for s in info.passthrough if suffix == ".mp4" or s.type == "audio"]
        renderer = Renderer(CITYSCAPES)
        width, height = renderer.output_size(info.width, info.height)
        sink.open(SinkContext(info, SPEC, width, height))
        labels = np.zeros((4, 4), np.uint8)
        for frame in islice(source.frames(), LIMIT):
            note(frame.packets)
            sink.write(Rendered(frame, labels, renderer.render(frame, labels)))
            times.append(frame.pts * frame.time_base)
        whole = len(times) < LIMIT
        if whole:
            sink.write_packets(note(source.remaining_packets()))
    back = read(out)
    tolerance = Fraction(1, 2000) if suffix == ".mkv" else 0
    assert len(back.pts_s) == len(times)
    assert max(abs(a - b) for a, b in zip(back.pts_s, times, strict=True)) <= tolerance
    assert back.size == (width, height)
    assert back.pixel_format in ("yuv420p", "yuvj420p")
    if whole:
        wanted = sorted(sizes[index] for index in kept if index in sizes)
        assert sorted([size for _, size in track] for track in back.packets.values()) == wanted
    else:  # sound up to the end of the last picture, without a gap
        end = times[-1] + (times[-1] - times[-2])
        for track in back.packets.values():
            assert max(time for time, _ in track) < end + Fraction(1, 100)
            assert any([size for _, size in track] == s[: len(track)] for s in sizes.values())
        sound = [index for index in kept if len(sizes.get(index, ())) > 20]
        assert len([track for track in back.packets.values() if len(track) > 20]) == len(sound)
    if suffix == ".mp4" and whole and info.duration_s is not None:
        assert float(back.duration_s) == pytest.approx(info.duration_s, abs=0.002)
