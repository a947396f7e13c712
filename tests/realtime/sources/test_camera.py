"""Cameras: what can go wrong, for real; and a real one where the machine has it."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path
from typing import Any

import av
import pytest

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.av_errors import source_error
from rtseg.realtime.sources.camera import CameraSource, cameras, lasting_name
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.reconnect import ReconnectingSource
from rtseg.realtime.sources.resolve import open_source, parse_source
from tests.realtime.sources.rights import unprivileged


@pytest.mark.parametrize("text", ["973", "camera973", "camera:973", "/dev/video973"])
def test_an_absent_camera_lists_those_that_are_there(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(text).open()
    assert caught.value.reason == "NOT_FOUND"
    message = str(caught.value)
    assert message.startswith("/dev/video973: ")
    assert "Cameras here: " in message
    assert all(camera in message for camera in cameras() or ["none"])


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_that_is_no_camera(device: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(f"v4l2://{device}", SourceOptions(width=1280, height=720)).open()
    assert caught.value.reason == "NOT_A_CAMERA"
    assert str(caught.value).startswith(f"{device}: ")


def test_a_link_to_a_device_is_a_camera(tmp_path: Path) -> None:
    link = tmp_path / "front.mp4"
    link.symlink_to("/dev/null")
    assert parse_source(str(link)).kind == "camera"
    assert parse_source(link).kind == "camera"
    with pytest.raises(SourceError) as caught:
        open_source(link).open()
    assert caught.value.reason == "NOT_A_CAMERA"


def test_an_unplugged_camera_is_waited_for(tmp_path: Path) -> None:
    name = "/dev/v4l/by-id/usb-no_such_camera-video-index0"
    source = open_source(name, SourceOptions(reconnect=2), patient=True)
    assert isinstance(source, ReconnectingSource)
    with pytest.raises(SourceError, match="Cameras here") as caught:
        source.open()
    assert caught.value.reason == "NOT_FOUND"


def test_the_name_that_stays_a_cameras_own(tmp_path: Path) -> None:
    device, folder = tmp_path / "video0", tmp_path / "by-id"
    device.touch()
    folder.mkdir()
    assert lasting_name(str(device), folder) is None
    (folder / "usb-cam-index0").symlink_to("../video0")
    assert lasting_name(str(device), folder) == str(folder / "usb-cam-index0")
    assert lasting_name(str(device), tmp_path / "absent") is None


def test_no_permission(tmp_path: Path) -> None:
    device = tmp_path / "video"
    device.touch(mode=0)
    with unprivileged(), pytest.raises(SourceError) as caught:
        open_source(f"v4l2://{device}").open()
    assert caught.value.reason == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EBUSY, "BUSY"),
        (errno.EACCES, "PERMISSION_DENIED"),
        (errno.ENODEV, "NOT_FOUND"),
        (errno.ENOTTY, "NOT_A_CAMERA"),
        (errno.ECONNREFUSED, "CONNECTION_FAILED"),
        (errno.ETIMEDOUT, "TIMEOUT"),
        (errno.EPROTONOSUPPORT, "PROTOCOL_UNSUPPORTED"),
        (errno.EMFILE, "FAILED"),
    ],
)
def test_what_the_system_says_in_a_word(number: int, reason: str) -> None:
    with pytest.raises(av.FFmpegError) as raised:
        av.error.err_check(-number, "rtsp://user:secret@host")
    error = source_error(raised.value, "camera")
    assert error.reason == reason
    assert "secret" not in str(error)


def test_a_full_bus_is_no_full_disk() -> None:
    with pytest.raises(av.FFmpegError) as raised:
        av.error.err_check(-errno.ENOSPC, "/dev/video0")
    error = CameraSource("/dev/video0", SourceOptions())._explained(raised.value)
    assert error.reason == "NO_BANDWIDTH"
    assert "USB" in str(error)
    assert "--input-format mjpeg" in str(error)
    assert "disk" not in str(error)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"input_format": "yuyv", "width": 1280, "height": 720}, ["yuyv422"]),
        ({"input_format": "mjpeg"}, ["mjpeg"]),
        ({"width": 1280, "height": 720}, ["mjpeg", None]),
        ({}, [None]),
    ],
)
def test_what_a_camera_is_asked_for(
    options: dict[str, Any], asked: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def refuse(device: str, **more: Any) -> None:
        seen.append(more["options"].get("input_format"))
        av.error.err_check(-errno.EINVAL, device)

    monkeypatch.setattr("rtseg.realtime.sources.camera.open_input", refuse)
    with pytest.raises(SourceError) as caught:
        CameraSource("/dev/null", SourceOptions(**options)).open()
    assert seen == asked
    if "input_format" in options:
        assert caught.value.reason == "CODEC_UNSUPPORTED"
        assert options["input_format"] in str(caught.value)


@pytest.mark.skipif(not cameras(), reason="needs a camera")
def test_a_real_camera() -> None:
    with open_source(cameras()[0]) as source:
        frames = list(itertools.islice(source.frames(), 3))
    assert source.info.live
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
