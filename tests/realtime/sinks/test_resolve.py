from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.sinks.encode import CODECS, EncodeOptions, parse_bitrate
from rtseg.realtime.sinks.images import ImageSink, PictureSink
from rtseg.realtime.sinks.jsonl import JsonlSink
from rtseg.realtime.sinks.labels import LabelSink, LabelVideoSink
from rtseg.realtime.sinks.null import NullSink
from rtseg.realtime.sinks.publisher import NetworkSink
from rtseg.realtime.sinks.resolve import (
    SinkOptions,
    open_jsonl_sink,
    open_label_sink,
    open_sink,
    parse_sink,
)
from rtseg.realtime.sinks.video import VideoFileSink
from rtseg.realtime.sinks.web import WebSink
from rtseg.realtime.sinks.window import WindowSink


@pytest.mark.parametrize(
    ("text", "kind", "sink"),
    [
        ("window", "window", WindowSink),
        ("null", "null", NullSink),
        ("-", "stdout", VideoFileSink),
        ("web", "web", WebSink),
        ("http://0.0.0.0:8080", "web", WebSink),
        ("rtsp://user:secret@host/live", "network", NetworkSink),
        ("rtmp://host/app/key", "network", NetworkSink),
        ("UDP://239.0.0.1:5000", "network", NetworkSink),
        ("a/seg.mp4", "video", VideoFileSink),
        ("SEG.MKV", "video", VideoFileSink),
        ("./window.mov", "video", VideoFileSink),
        ("file:///tmp/no-such/seg.mp4", "video", VideoFileSink),
        ("frame_%06d.png", "images", ImageSink),
        ("x/%d.jpg", "images", ImageSink),
        ("no-such/photo.png", "picture", PictureSink),
        (".", "directory", VideoFileSink),
    ],
)
def test_forms(text, kind, sink):
    assert parse_sink(text).kind == kind
    assert type(open_sink(text)) is sink


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "one of"),
        ("windw", "did you mean 'window'?"),
        ("seg.avi", "did you mean 'seg.mp4'?"),
        ("%s_seg.png", "seg_%06d.png"),
        ("tcp://user:secret@host:9/live", "no tcp outputs: "),
        ("rtsp://user:secret@:554/live", "lacks a host"),
        ("udp://user:secret@host", "lacks a port"),
        ("ftp://user:secret@host/seg", "unknown output"),
        ("web:99999", "a port is 0"),
        ("https://localhost:8080", "reverse proxy"),
        ("http://user:secret@localhost:80", "no user name"),
        ("webb", "did you mean 'web'?"),
    ],
)
def test_other_forms_say_what_is_allowed(text, says):
    with pytest.raises(UsageError) as caught:
        parse_sink(text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.text(max_size=40))
def test_any_text_is_a_sink_or_a_usage_error(text):
    try:
        target = parse_sink(text)
    except UsageError as error:
        message = str(error)
    else:
        assert target.kind in (
            "window",
            "null",
            "web",
            "network",
            "video",
            "images",
            "directory",
            "stdout",
        )
        return
    assert "\n" not in message or "\n" in repr(text)


def test_existing_files_are_refused_before_anything_starts(tmp_path):
    for name, make in (
        ("a.mp4", open_sink), ("a.mkv", open_label_sink), ("a.jsonl", open_jsonl_sink),
    ):  # fmt: skip
        (tmp_path / name).touch()
        with pytest.raises(UsageError) as caught:
            make(str(tmp_path / name))
        assert caught.value.reason == "EXISTS"
        make(str(tmp_path / name), SinkOptions(overwrite=True))


def test_label_and_json_outputs(tmp_path):
    assert type(open_label_sink(str(tmp_path))) is LabelSink
    assert type(open_label_sink(str(tmp_path / "ids"))) is LabelSink
    assert type(open_label_sink(str(tmp_path / "x.mkv"))) is LabelVideoSink
    assert type(open_jsonl_sink(str(tmp_path / "x.jsonl"))) is JsonlSink
    with pytest.raises(UsageError, match="lossless"):
        open_label_sink("ids.mp4")
    with pytest.raises(UsageError, match="trainids, cityscapes"):
        SinkOptions(label_ids="voc")


@pytest.mark.parametrize(
    ("text", "bits"), [("4M", 4_000_000), ("800k", 800_000), ("2.5m", 2_500_000), ("5000", 5000)]
)
def test_bit_rates(text, bits):
    assert parse_bitrate(text) == bits


@pytest.mark.parametrize("text", ["", "fast", "-4M", "4G", "4 M M"])
def test_what_is_no_bit_rate(text):
    with pytest.raises(UsageError, match="4M, 800k"):
        parse_bitrate(text)


def test_encode_options_say_what_is_allowed():
    for codec in [*CODECS, "libx264", "HEVC"]:
        assert EncodeOptions(codec=codec).resolved.encoder
    with pytest.raises(UsageError, match="h264, h265, av1"):
        EncodeOptions(codec="xvid")
    with pytest.raises(UsageError, match=r"0\.\.51"):
        EncodeOptions(crf=60)
    with pytest.raises(UsageError, match="exclude each other"):
        EncodeOptions(crf=20, bitrate_bps=4_000_000)
    with pytest.raises(UsageError, match="at least 1000"):
        EncodeOptions(bitrate_bps=4)
    with pytest.raises(UsageError, match="threads"):
        EncodeOptions(threads=-1)


def test_naming_an_output_loads_neither_av_nor_opencv():
    code = (
        "import sys; from rtseg.realtime.sinks.resolve import parse_sink, open_sink\n"
        "import rtseg.realtime.palette, rtseg.realtime.overlay, rtseg.realtime.controls\n"
        "[open_sink(t) for t in ('a.mp4', 'null', 'f_%d.png', 'window')]\n"
        "assert not {'av', 'cv2'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_folder_that_is_not_there_is_made(tmp_path):
    text = f"{tmp_path / 'recordings'}/"
    assert parse_sink(text).kind == "directory"
    assert not (tmp_path / "recordings").exists()
    open_sink(text)
    assert (tmp_path / "recordings").is_dir()
    with pytest.raises(SinkError) as caught:
        open_sink(f"{tmp_path / 'one' / 'two'}/")
    assert caught.value.reason == "NOT_FOUND"
