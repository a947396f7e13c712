"""The relay as its parent sees it: a process that is fed, listened to, and killed if it hangs."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import SinkError
from rtseg.realtime.sinks.child import start_module
from rtseg.realtime.sinks.relay import HEADER, Target

if TYPE_CHECKING:
    import av

_POLL_MS = 50
_FINISH_S = 3.0


class RelayProcess:
    """Runs :mod:`rtseg.realtime.sinks.relay` for one connection; a context manager that ends it.

    Args:
        target: where the stream goes.
        stop: ends every wait.
        answer_s: how long the receiver may take to answer, in seconds.
        stall_s: how long the receiver may take nothing until it counts as lost, in seconds.
    """

    def __init__(
        self, target: Target, stop: threading.Event, *, answer_s: float, stall_s: float
    ) -> None:
        self._target = target
        self._stop = stop
        self._answer_s = answer_s
        self._stall_s = stall_s
        self._said = b""
        self._process = start_module("rtseg.realtime.sinks.relay", complaints=subprocess.DEVNULL)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)

    def start(self, packet: av.Packet[Any]) -> bool:
        """Connect with a first packet, a keyframe; return False when stopped meanwhile.

        Raises:
            SinkError: the receiver refused, or did not answer in time.
        """
        deadline_s = time.monotonic() + self._answer_s
        self._write(self._target.to_line())
        self.send(packet)
        while not self._stop.is_set():
            if self._opened():
                return True
            if time.monotonic() > deadline_s:
                raise SinkError(
                    f"{self._target.shown}: no answer within {self._answer_s:g} s",
                    reason="TIMEOUT",
                )
            select.select([self._from], [], [], _POLL_MS / 1e3)
        return False

    def send(self, packet: av.Packet[Any], *, sound: bool = False) -> None:
        """Send a packet, waiting for the receiver as long as it takes some of it.

        Args:
            packet: of a picture, or of the sound; its times in the relay's ticks.
            sound: which of the two.

        Raises:
            SinkError: the connection broke, or the receiver takes nothing any more.
        """
        pts = packet.pts or 0
        dts = pts if packet.dts is None else packet.dts
        times = (pts, dts, packet.duration or 0)
        head = HEADER.pack(int(sound), *times, packet.is_keyframe, packet.size)
        self._write(head + bytes(packet))

    def check(self) -> None:
        """Look whether the connection still stands.

        Raises:
            SinkError: it does not.
        """
        self._opened()

    def close(self) -> None:
        """Say goodbye to the receiver; whatever still hangs after that is killed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_FINISH_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def __enter__(self) -> RelayProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.kill()
        self.close()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        moved_s = time.monotonic()
        waiting = select.poll()
        waiting.register(self._to, select.POLLOUT)
        while rest:
            try:
                count = os.write(self._to, rest)
                rest, moved_s = rest[count:], time.monotonic()
            except BlockingIOError:
                if self._stop.is_set():
                    self.kill()
                    raise SinkError(f"{self._target.shown}: stopped", reason="CLOSED") from None
                if time.monotonic() - moved_s > self._stall_s:
                    raise SinkError(
                        f"{self._target.shown}: it took nothing for {self._stall_s:g} s",
                        reason="TIMEOUT",
                    ) from None
                waiting.poll(_POLL_MS)
            except OSError:
                self._process.wait()
                self._opened()
                raise self._gone() from None

    def _opened(self) -> bool:
        """Read what the relay says; return whether it said that it is connected."""
        ended = self._process.poll() is not None
        opened = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._from, 4096):
                self._said += data
        *lines, self._said = self._said.split(b"\n")
        for event in map(json.loads, lines):
            if "reason" in event:
                raise SinkError(event["message"], reason=event["reason"])
            opened = True
        if ended:
            raise self._gone()
        return opened

    def _gone(self) -> SinkError:
        return SinkError(f"{self._target.shown}: the connection broke", reason="CONNECTION_FAILED")
