"""A disk that fills up, for the outputs that are not videos of pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from rtseg.realtime.errors import SinkError
from rtseg.realtime.sinks.images import ImageSink
from rtseg.realtime.sinks.jsonl import JsonlSink
from rtseg.realtime.sinks.labels import LabelSink, LabelVideoSink
from tests.realtime.sinks.parts import SIZE, context, rendered


def readable_images(folder):
    images = [cv2.imread(str(path)) for path in folder.glob("*.png")]
    assert all(image is not None and image.shape == (64, 96, 3) for image in images)
    return len(images)


def readable_lines(folder):
    text = (folder / "a.jsonl").read_text()
    assert text.endswith("\n")
    return len([json.loads(line) for line in text.splitlines()])


def readable_video(folder):
    with av.open(str(folder / "a.mkv")) as file:
        return sum(1 for _ in file.decode(video=0))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda folder: ImageSink(folder / "f_%06d.png"), readable_images),
        (LabelSink, readable_images),
        (lambda folder: LabelVideoSink(folder / "a.mkv"), readable_video),
        (lambda folder: JsonlSink(folder / "a.jsonl"), readable_lines),
    ],
    ids=["images", "labels", "label video", "jsonl"],
)
def test_what_was_written_stays_readable(tiny_disk, make, count):
    (tiny_disk / "filler").write_bytes(bytes(800_000))
    sink = make(tiny_disk)
    sink.open(context())
    written = []
    (item,) = rendered(1)
    random = np.random.default_rng(0)

    def fill():
        for index in range(5000):
            labels = random.integers(0, 19, (SIZE[1], SIZE[0]), np.uint8)
            frame = replace(item.frame, index=index, pts=index * 512)
            sink.write(replace(item, frame=frame, labels=labels))
            written.append(index)

    with pytest.raises(SinkError) as caught:
        fill()
    sink.close()
    assert caught.value.reason == "NO_SPACE"
    assert "\n" not in str(caught.value)
    # a video's last cluster, of at most a second, is lost
    assert len(written) - 26 <= count(tiny_disk) <= len(written)
    assert count(tiny_disk) >= 5
