from __future__ import annotations

import subprocess
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.engines.spec import EngineSpec
from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.sinks.labels import LabelSink, LabelVideoSink, label_table
from tests.realtime.sinks.parts import TICKS, TIME_BASE, BrokenStream, context, labels_of, rendered

ODD = (95, 63)


def test_train_ids_at_the_size_of_the_frames(tmp_path):
    folder = tmp_path / "ids"
    with LabelSink(folder) as sink:
        sink.open(context(ODD))
        for item in rendered(3, size=ODD):
            sink.write(item)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"drive_{index:06d}_labelTrainIds.png" for index in range(3)]
    for index, name in enumerate(names):
        image = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
        assert image.dtype == np.uint8
        assert np.array_equal(image, scale_nearest(labels_of(index), 63, 95))
        assert image[0, 0] == 255


def test_label_ids_of_the_data_set(tmp_path):
    with LabelSink(tmp_path, "cityscapes") as sink:
        sink.open(context())
        for item in rendered(1):
            sink.write(item)
    image = cv2.imread(str(tmp_path / "drive_000000_labelIds.png"), cv2.IMREAD_UNCHANGED)
    ids = scale_nearest(labels_of(0), 64, 96)
    known = ids < 19
    assert np.array_equal(image[known], np.array(CITYSCAPES.label_ids)[ids[known]])
    assert (image[~known] == 0).all()


def test_ids_without_a_class_are_void():
    table = label_table(ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1))), "trainids")
    assert table.tolist() == [0, 1] + [255] * 254


def test_networks_without_data_set_ids(tmp_path):
    table = ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    about = replace(context(), engine=EngineSpec("x", 8, 8, classes=table))
    with pytest.raises(UsageError, match=r"no data-set ids.*Allowed: trainids"):
        LabelSink(tmp_path, "cityscapes").open(about)


def test_directories(tmp_path):
    with pytest.raises(SinkError) as caught:
        LabelSink(tmp_path / "a" / "b").open(context())
    assert caught.value.reason == "NOT_FOUND"
    (tmp_path / "file").touch()
    with pytest.raises(SinkError) as caught:
        LabelSink(tmp_path / "file").open(context())
    assert caught.value.reason == "EXISTS"


def test_earlier_labels_are_refused_but_not_those_of_another_source(tmp_path):
    def write(**options):
        with LabelSink(tmp_path, **options) as sink:
            sink.open(context())
            for item in rendered(1):
                sink.write(item)

    (tmp_path / "other_000000_labelTrainIds.png").write_bytes(b"x")
    write()
    with pytest.raises(UsageError) as caught:
        write()
    assert caught.value.reason == "EXISTS"
    write(overwrite=True)
    write(ids="cityscapes")


@pytest.mark.parametrize("size", [(96, 64), ODD])
def test_the_video_is_bit_exact(tmp_path, size):
    path = tmp_path / "ids.mkv"
    with LabelVideoSink(path) as sink:
        sink.open(context(size))
        for item in rendered(8, size=size):
            sink.write(item)
    with av.open(str(path)) as file:
        assert file.streams.video[0].codec_context.name == "ffv1"
        frames = list(file.decode(video=0))
    assert len(frames) == 8
    for index, frame in enumerate(frames):
        assert frame.format.name == "gray"
        wanted = scale_nearest(labels_of(index), size[1], size[0])
        assert np.array_equal(frame.to_ndarray(), wanted)
        assert abs(frame.pts * frame.time_base - index * TICKS * TIME_BASE) <= Fraction(1, 2000)


def test_the_video_is_bit_exact_for_the_ffmpeg_command(tmp_path):
    path = tmp_path / "ids.mkv"
    with LabelVideoSink(path, "cityscapes") as sink:
        sink.open(context())
        for item in rendered(2):
            sink.write(item)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    try:
        raw = subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no ffmpeg command")
    table = label_table(CITYSCAPES, "cityscapes")
    wanted = [table[scale_nearest(labels_of(index), 64, 96)] for index in range(2)]
    assert raw == b"".join(ids.tobytes() for ids in wanted)


def test_errors_of_ffmpegs_own_kind(tmp_path):
    sink = LabelVideoSink(tmp_path / "a.mkv")
    sink.open(context())
    sink._stream = BrokenStream(sink._stream)
    with pytest.raises(SinkError, match="external library"):
        sink.write(next(rendered(1)))
    with pytest.raises(SinkError, match="external library"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_begun_leaves_no_file(tmp_path):
    sink = LabelVideoSink(tmp_path / "ids.mkv")
    with pytest.raises(SinkError, match="cannot encode") as caught:
        sink.open(context(time_base=Fraction(1, 1 << 40)))
    assert caught.value.reason == "CODEC_UNSUPPORTED"
    assert not list(tmp_path.iterdir())
    sink.close()
