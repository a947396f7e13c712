"""The program that holds a network output's connection: encoded packets in, a stream out.

FFmpeg connects, and writes a stream's header, without ever letting other Python threads run, so
a receiver that does not answer would stop the whole loop. Here it stops only this program, which
:mod:`rtseg.realtime.sinks.publisher` starts, feeds through a pipe and may kill at any time::

    python -m rtseg.realtime.sinks.relay < packets > status

Standard input is one line of JSON (:class:`Target`), then packets, each a :data:`HEADER` and its
bytes; the first one is a keyframe of the pictures with its parameter sets. Standard output is one
line of JSON for each thing that happens: ``{"open": true}`` or ``{"reason": …, "message": …}``. The
URL comes through the pipe, so that its password is in no list of processes.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import signal
import socket
import stat
import struct
import sys
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

    Packet = av.Packet[Any]

HEADER = struct.Struct("<IqqqII")
"""Before each packet: stream (0 pictures, 1 sound), pts, dts and duration in ticks, whether it is a
keyframe, bytes."""

TICK = Fraction(1, 90_000)
"""Seconds of one tick of the pictures; of the sound it is one over its rate."""

PATIENCE_S = 15
"""After how long without progress the program ends itself, whatever FFmpeg waits for."""

SEND_BUFFER_BYTES = 128 * 1024
"""What the system may hold of the stream; by itself it would hold seconds for a slow receiver."""


@dataclass(frozen=True)
class Target:
    """Where the stream goes.

    Attributes:
        url: the address, with any password.
        shown: the address for people.
        container: FFmpeg's name of the container.
        codec: ``h264`` or ``hevc``.
        options: FFmpeg's options of the container.
        sound: the sound's parameters, base64 of what
            :func:`rtseg.realtime.sources.templates.write_template` returns; empty for none.
    """

    url: str
    shown: str
    container: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    sound: str = ""

    def to_line(self) -> bytes:
        """Return the line that a relay reads first."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> int:
    """Relay packets until the input ends; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends the input
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    incoming = sys.stdin.buffer
    target = Target(**json.loads(incoming.readline()))
    first = _read_packet(incoming)
    if first is None:
        return 0
    _, keyframe = first

    import av

    try:
        signal.alarm(PATIENCE_S)
        with _open(target, bytes(keyframe)) as out:
            _send(out, *first)
            _shorten_buffers()
            _say(open=True)
            while (read := _read_packet(incoming)) is not None:
                signal.alarm(PATIENCE_S)
                _send(out, *read)
                signal.alarm(0)
            signal.alarm(PATIENCE_S)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        _say(**_explained(error, target, isinstance(error, av.error.FFmpegError)))
        return 1
    return 0


def _open(target: Target, keyframe: bytes) -> OutputContainer:
    import av

    options = dict(target.options)
    if target.sound:
        # Muxers sort pictures and sound; here a picture never waits longer than for the next
        # packet, whichever it is, where the sound is late or ends.
        options["max_interleave_delta"] = "1"
    out = av.open(target.url, "w", format=target.container, container_options=options)
    # the parameter sets, which receivers are told at the start, lie in the first packet
    with av.open(io.BytesIO(keyframe), format=target.codec) as sample:
        out.add_stream_from_template(sample.streams.video[0], opaque=True)
    if target.sound:
        from rtseg.realtime.sources.templates import read_template

        with read_template(base64.b64decode(target.sound)) as template:
            out.add_stream_from_template(template, opaque=True)
    return out


def _send(out: OutputContainer, number: int, packet: Packet) -> None:
    sound = out.streams.audio[0] if number else None
    packet.stream = sound or out.streams.video[0]
    packet.time_base = Fraction(1, sound.codec_context.sample_rate) if sound else TICK
    out.mux(packet)


def _read_packet(incoming: BinaryIO) -> tuple[int, Packet] | None:
    import av

    head = incoming.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    number, pts, dts, duration, keyframe, size = HEADER.unpack(head)
    data = incoming.read(size)
    if len(data) < size:
        return None
    packet: Packet = av.Packet(data)
    packet.pts, packet.dts, packet.duration = pts, dts, duration
    packet.is_keyframe = bool(keyframe)
    return number, packet


def _shorten_buffers() -> None:
    """Let this process's sockets hold little, and send at once."""
    names = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    for number in map(int, names):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                if connection.type == socket.SOCK_STREAM:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _explained(error: Exception, target: Target, from_ffmpeg: bool) -> dict[str, str]:
    """Return reason word and message of a failure, without the URL's password."""
    from rtseg.realtime.sources.av_errors import source_error

    if getattr(error, "errno", None) == errno.EIO and target.url.startswith("rtsps:"):
        why = "no answer, or a certificate that is not trusted (SSL_CERT_FILE names those that are)"
        return {"reason": "CONNECTION_FAILED", "message": f"{target.shown}: {why}"}
    if from_ffmpeg:
        explained = source_error(error, target.shown)  # type: ignore[arg-type]
        return {"reason": explained.reason, "message": str(explained)}
    return {"reason": "FAILED", "message": f"{target.shown}: {type(error).__name__}"}


def _say(**event: object) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
