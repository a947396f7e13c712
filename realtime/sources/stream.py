"""Network streams: RTSP, RTMP, HTTP (files, HLS, MJPEG), UDP, TCP, SRT, and RTP by an SDP file."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.container import ContainerSource, time_limits
from rtseg.realtime.sources.hwaccel import open_container
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import RTSP_TRANSPORTS, SourceOptions

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt")

PAGE = (
    "A page that plays a video is not the video: name the stream's or file's own address, or pipe "
    "it (yt-dlp -o - PAGE | rt-seg -)"
)

# How much FFmpeg reads to learn the codec's parameters; its own 5 s would be the time to
# the first picture of a slow camera.
_PROBE_US = 1_000_000


class StreamSource(ContainerSource):
    """A stream by URL.

    A file behind ``http`` that tells its length is read as a file is: losslessly, and at the
    reader's pace. Everything else is live. A broken connection ends the source; who wants
    to go on opens a new one.

    Args:
        url: as FFmpeg takes it, with user and password escaped where it has them; or the path of
            an SDP file, which describes RTP that is sent to this machine.
        options: what the user asked for.
    """

    def __init__(self, url: str, options: SourceOptions) -> None:
        super().__init__(shown(url), _stem(url), options, live=True, sound=True)
        self._url = url

    def _connect(self) -> InputContainer:
        scheme = self._url.partition(":")[0].lower()
        settings = {"analyzeduration": str(_PROBE_US)}
        url = self._url
        if is_sdp(url):
            url = f"file:{url}"
            settings["protocol_whitelist"] = "file,udp,rtp"
        if scheme in ("rtsp", "rtsps"):
            settings["rtsp_transport"] = self._options.rtsp_transport
            wanted = "video+audio" if self._options.live_sound else "video"
            settings["allowed_media_types"] = wanted
            # Three frames tell the rate; FFmpeg's default of twenty is most of a second.
            settings["fpsprobesize"] = "3"
        if scheme in ("http", "https"):
            settings["live_start_index"] = "-1"  # HLS: the newest segment, not the third last
        if scheme == "udp":
            # A reader that is late loses packets, not the stream.
            settings["overrun_nonfatal"] = "1"
        return open_container(
            url,
            self._options,
            self._name,
            options=settings,
            timeout=time_limits(self._options),
        )

    def _explained(self, error: av.FFmpegError) -> SourceError:
        if error.errno == errno.EPROTONOSUPPORT and self._url.lower().startswith("rtsp"):
            asked = self._options.rtsp_transport
            other = next(word for word in RTSP_TRANSPORTS if word != asked)
            return SourceError(
                f"{self._name}: it does not send over {asked.upper()} (461); "
                f"try --rtsp-transport {other}",
                reason="PROTOCOL_UNSUPPORTED",
            )
        explained = super()._explained(error)
        if explained.reason == "NOT_A_VIDEO" and self._url.lower().startswith("http"):
            return SourceError(f"{explained}. {PAGE}", reason=explained.reason)
        return explained

    def _is_live(self, container: InputContainer) -> bool:
        scheme = self._url.partition(":")[0].lower()
        return scheme not in ("http", "https") or not container.duration


def is_sdp(url: str) -> bool:
    """Say whether a source is the path of an SDP file (RFC 8866)."""
    return "://" not in url and url.lower().endswith(".sdp")


def _stem(url: str) -> str:
    """Return the last part of the path without suffix, or the host; never user or password."""
    try:
        parts = urlsplit(url)
        last = parts.path.rstrip("/").rpartition("/")[2].rpartition("@")[2]
        return stem_of(last.rpartition(".")[0] or last or parts.hostname or "", "stream")
    except ValueError:
        return "stream"
