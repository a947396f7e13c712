"""Addresses that a stream can be sent to: ``rtsp(s)://``, ``rtmp(s)://``, ``udp://``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from urllib.parse import urlsplit

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sources.naming import shown

FORMS = "rtsp[s]://HOST[:PORT]/PATH, rtmp[s]://HOST[:PORT]/APP/KEY, udp://HOST:PORT (MPEG-TS)"

_SCHEME = re.compile(r"(rtsps?|rtmps?|udp)://", re.IGNORECASE)
_STREAM_KEY = re.compile(r"(?i)^(\s*rtmps?:/+[^/]+/[^/?]+/).+", re.DOTALL)

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
        scheme: ``rtsp``, ``rtsps``, ``rtmp``, ``rtmps`` or ``udp``.
        shown: the address as it was typed, without its password or stream key.
    """

    url: str = field(repr=False)
    scheme: str
    shown: str

    @property
    def plain(self) -> str:
        """The scheme without encryption: ``rtsp``, ``rtmp`` or ``udp``."""
        return self.scheme if self.scheme == "udp" else self.scheme.removesuffix("s")

    @property
    def container(self) -> str:
        """FFmpeg's name of the container."""
        return _CONTAINERS[self.plain][0]

    @property
    def options(self) -> dict[str, str]:
        """FFmpeg's options of the container."""
        options = dict(_CONTAINERS[self.plain][1])
        if self.scheme == "rtsps":
            options |= {"tls_verify": "1", **_trusted()}
        return options

    @property
    def codecs(self) -> tuple[str, ...]:
        """Which names of ``--codec`` can be sent there."""
        return _CODECS[self.plain]

    def refuses_sound(self, codec: str, rate_hz: int) -> str | None:
        """Return why sound cannot be sent there as it is, None where it can.

        Args:
            codec: FFmpeg's name, such as ``aac``.
            rate_hz: samples per second.
        """
        allowed = _SOUND[self.plain]
        if codec not in allowed:
            return f"{self.scheme} takes {', '.join(allowed)}. Received: {codec}"
        if (self.plain, codec) == ("rtmp", "mp3") and rate_hz not in _FLV_MP3_HZ:
            rates = ", ".join(map(str, _FLV_MP3_HZ))
            return f"{self.scheme} takes mp3 of {rates} Hz. Received: {rate_hz} Hz"
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
        raise UsageError(
            f"not an address to send to. Allowed: {FORMS}. Received: {shown_address(text)!r}"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    scheme = parts.scheme.lower() if host else url.split(":", 1)[0].lower()
    if not host or (scheme == "udp" and not port):
        missing = "a port" if host else "a host (and a port from 1 to 65535)"
        raise UsageError(f"{shown_address(url)} lacks {missing}. Allowed: {FORMS}")
    if scheme == "udp" and "pkt_size=" not in url:
        url += f"{'&' if '?' in url else '?'}pkt_size={DATAGRAM_BYTES}"
    return NetworkAddress(scheme + url[len(scheme) :], scheme, shown_address(text.strip()))


def shown_address(text: str) -> str:
    """Return an address fit to be printed: no password, and no stream key of RTMP.

    >>> shown_address("rtmps://live.example/app/k3y")
    'rtmps://live.example/app/***'
    """
    return shown(_STREAM_KEY.sub(r"\1***", text))


def without_secrets(text: str, typed: Sequence[str]) -> str:
    """Return a message without the passwords of what was typed, however it repeats the words.

    Args:
        text: what is to be printed.
        typed: the command's words: addresses, and options with one (``--out=rtsp://...``).

    >>> without_secrets("no such file: 'rtsp:/u:pw@door/x'", ["--engine=rtsp://u:pw@door/x"])
    "no such file: 'rtsp://***@door/x'"
    """
    for word in typed:
        for part in (word, word.partition("=")[2]):
            hidden = shown_address(part)
            if "***" in hidden:
                for form in (part, repr(part)[1:-1], str(PurePath(part))):
                    text = text.replace(form, hidden)
    return text


def _trusted() -> dict[str, str]:
    """Return FFmpeg's option for the authorities that are trusted (``SSL_CERT_FILE``)."""
    import ssl

    file = ssl.get_default_verify_paths().cafile
    return {} if file is None else {"ca_file": file}
