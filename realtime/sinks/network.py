"""Addresses that a stream can be sent to: ``rtsp://``, ``rtmp://``, ``udp://``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sources.naming import shown

FORMS = "rtsp://HOST[:PORT]/PATH, rtmp://HOST[:PORT]/APP/KEY, udp://HOST:PORT (MPEG-TS)"

_SCHEME = re.compile(r"(rtsp|rtmp|udp)://", re.IGNORECASE)

DATAGRAM_BYTES = 1316
"""Seven packets of MPEG-TS: what fits into an Ethernet frame, and what receivers expect."""

_CONTAINERS: dict[str, tuple[str, dict[str, str]]] = {
    # over TCP: what a camera's stream loses on the way back to a server nobody sends again
    "rtsp": ("rtsp", {"rtsp_transport": "tcp"}),
    "rtmp": ("flv", {"flvflags": "no_duration_filesize"}),
    # tables each 100 ms, so that a receiver that joins late need not wait for them
    "udp": ("mpegts", {"flush_packets": "1", "pat_period": "0.1", "sdt_period": "1"}),
}
_CODECS = {"rtsp": ("h264", "h265"), "rtmp": ("h264",), "udp": ("h264", "h265")}
_SOUND = {
    "rtsp": ("aac", "opus", "mp3", "mp2", "pcm_mulaw", "pcm_alaw"),
    "rtmp": ("aac", "mp3"),
    "udp": ("aac", "mp3", "mp2", "ac3", "eac3", "opus"),
}
_FLV_MP3_HZ = (11_025, 22_050, 44_100)


@dataclass(frozen=True)
class NetworkAddress:
    """Where a stream goes.

    Attributes:
        url: the address as FFmpeg takes it, with any password.
        scheme: ``rtsp``, ``rtmp`` or ``udp``.
        shown: the address as it was typed, without its password.
    """

    url: str = field(repr=False)
    scheme: str
    shown: str

    @property
    def container(self) -> str:
        """FFmpeg's name of the container."""
        return _CONTAINERS[self.scheme][0]

    @property
    def options(self) -> dict[str, str]:
        """FFmpeg's options of the container."""
        return dict(_CONTAINERS[self.scheme][1])

    @property
    def codecs(self) -> tuple[str, ...]:
        """Which names of ``--codec`` can be sent there."""
        return _CODECS[self.scheme]

    def refuses_sound(self, codec: str, rate_hz: int) -> str | None:
        """Return why sound cannot be sent there as it is, None where it can.

        Args:
            codec: FFmpeg's name, such as ``aac``.
            rate_hz: samples per second.
        """
        allowed = _SOUND[self.scheme]
        if codec not in allowed:
            return f"{self.scheme} takes {', '.join(allowed)}. Received: {codec}"
        if (self.scheme, codec) == ("rtmp", "mp3") and rate_hz not in _FLV_MP3_HZ:
            rates = ", ".join(map(str, _FLV_MP3_HZ))
            return f"rtmp takes mp3 of {rates} Hz. Received: {rate_hz} Hz"
        return None


def is_network(text: str) -> bool:
    """Return whether a text has the form of such an address."""
    return _SCHEME.match(text.strip()) is not None


def parse_network(text: str) -> NetworkAddress:
    """Return the address that a text means; nothing is connected.

    Raises:
        UsageError: no host, no port where one is needed, or not such an address.

    >>> parse_network("udp://127.0.0.1:5000").url
    'udp://127.0.0.1:5000?pkt_size=1316'
    """
    url = text.strip()
    if not is_network(url):
        raise UsageError(f"not an address to send to. Allowed: {FORMS}. Received: {shown(text)!r}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    scheme = parts.scheme.lower() if host else url.split(":", 1)[0].lower()
    if not host or (scheme == "udp" and not port):
        missing = "a port" if host else "a host (and a port from 1 to 65535)"
        raise UsageError(f"{shown(url)} lacks {missing}. Allowed: {FORMS}")
    if scheme == "udp" and "pkt_size=" not in url:
        url += f"{'&' if '?' in url else '?'}pkt_size={DATAGRAM_BYTES}"
    return NetworkAddress(scheme + url[len(scheme) :], scheme, shown(text.strip()))
