"""Decoding on a device, where there is one that works."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pyav import open_input

if TYPE_CHECKING:
    import av
    from av.codec.context import CodecContext
    from av.container import InputContainer

log = logging.getLogger(__name__)

_TRIED_WITH = "h264"  # a codec that every decoder device has
TRIED_BY_AUTO = ("cuda", "vaapi", "videotoolbox")


def open_container(target: Any, wanted: SourceOptions, name: str, **more: Any) -> InputContainer:
    """Open ``target`` with PyAV, on the decoder device asked for if that can be had.

    Frames come in main memory either way.

    Args:
        target: path, URL or file-like object, as ``av.open`` takes it.
        wanted: its ``hwaccel`` is read.
        name: the source as it may be shown.
        more: further arguments of ``av.open``.

    Raises:
        av.FFmpegError: the source itself cannot be opened.
        UsageError: FFmpeg knows no such device.
    """
    import av

    if wanted.hwaccel == "none":
        return open_input(target, **more)
    from av.codec.hwaccel import HWAccel, hwdevices_available

    known = hwdevices_available()
    if wanted.hwaccel != "auto" and wanted.hwaccel not in known:
        raise UsageError(
            f"--hwaccel must be auto, none or one of {', '.join(known)}. Received: {wanted.hwaccel}"
        )
    devices = TRIED_BY_AUTO if wanted.hwaccel == "auto" else (wanted.hwaccel,)
    refused = []
    for device in devices:
        if device not in known:
            continue
        # The device is tried without the input, of which a pipe gives each byte once.
        try:
            HWAccel(device).create(av.Codec(_TRIED_WITH, "r"))
        except (av.FFmpegError, ValueError, RuntimeError, NotImplementedError):
            refused.append(device)
            continue
        return open_input(target, hwaccel=HWAccel(device, allow_software_fallback=True), **more)
    container = open_input(target, **more)
    _say_software(name, " or ".join(refused))
    return container


def say_if_software(context: CodecContext, picture: av.VideoFrame, device: str, name: str) -> None:
    """Warn where a device was opened, and software decoded the first picture nevertheless.

    FFmpeg makes a device of CUDA without the driver's decoder (libnvcuvid), and of any maker
    for what it cannot decode; then it falls back without a word.

    Args:
        context: what decoded the picture.
        picture: as the decoder gave it: those of devices are no planar 4:2:0.
        device: the device asked for.
        name: the source as it may be shown.
    """
    planar = picture.format.name.startswith(("yuv420p", "yuvj420p"))
    if planar and getattr(context, "is_hwaccel", False):
        _say_software(name, "a device" if device == "auto" else device)


def _say_software(name: str, device: str) -> None:
    log.warning("%s: no decoding on %s here; decoding in software", name, device)
