from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.sinks.images import ImageSink, to_bgr
from tests.realtime.sinks.parts import context, rendered, write_frames


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0), ("jpg", 12)])
def test_images_show_the_pictures(tmp_path, suffix, tolerance):
    with ImageSink(tmp_path / f"f_%04d.{suffix}") as sink:
        sink.open(context())
        write_frames(sink, 3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"f_{index:04d}.{suffix}" for index in range(3)]
    for name, item in zip(names, rendered(3), strict=True):
        image = cv2.imread(str(tmp_path / name))
        assert image.shape == (64, 96, 3)
        wanted = to_bgr(item.picture).astype(int)
        assert np.abs(image.astype(int) - wanted).mean() <= tolerance


def test_the_number_is_the_index_of_the_frame(tmp_path):
    with ImageSink(tmp_path / "%d.png") as sink:
        sink.open(context())
        for item in list(rendered(9))[::4]:
            sink.write(item)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "4.png", "8.png"]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6])
def test_colours_come_out_of_their_own_matrix_and_range(matrix, full):
    import av

    from rtseg.realtime.yuv import ColourTags, colours_to_yuv

    tags = ColourTags(matrix, full)
    for rgb in ((220, 20, 60), (0, 0, 142), (107, 142, 35)):
        yuv = colours_to_yuv(np.array([rgb], np.uint8), tags)[0]
        picture = av.VideoFrame(32, 16, "yuv420p")
        for plane, value in zip(picture.planes, yuv, strict=True):
            np.frombuffer(plane, np.uint8)[:] = value
        tags.write_to(picture)
        assert np.abs(to_bgr(picture)[4, 4, ::-1].astype(int) - rgb).max() <= 3


def test_existing_images_are_refused(tmp_path):
    (tmp_path / "f_0007.png").write_bytes(b"x")
    with pytest.raises(UsageError) as caught:
        ImageSink(tmp_path / "f_%04d.png").open(context())
    assert caught.value.reason == "EXISTS"
    ImageSink(tmp_path / "f_%04d.png", overwrite=True).open(context())
    ImageSink(tmp_path / "g_%04d.png").open(context())


@pytest.mark.parametrize(
    ("pattern", "name"), [("f_%6d.png", "f_     7.png"), ("a*_%d.png", "a*_7.png")]
)
def test_existing_images_are_known_by_any_pattern(tmp_path, pattern, name):
    with ImageSink(tmp_path / pattern) as sink:
        sink.open(context())
        sink.write(list(rendered(8))[7])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(UsageError) as caught:
        ImageSink(tmp_path / pattern).open(context())
    assert caught.value.reason == "EXISTS"


def test_the_directory_must_exist(tmp_path):
    with pytest.raises(SinkError) as caught:
        ImageSink(tmp_path / "absent" / "f_%04d.png").open(context())
    assert caught.value.reason == "NOT_FOUND"


@pytest.mark.parametrize("name", ["a.png", "%d_%d.png", "a_%d.gif", "a_%s.png", "100%.png"])
def test_names_without_one_number(name):
    with pytest.raises(UsageError, match=r"frame_%06d\.png"):
        ImageSink(name)
