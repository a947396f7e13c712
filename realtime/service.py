"""What a service manager (systemd) hears of a run: ready, alive, what it does, stopping.

The protocol of sd_notify(3): datagrams of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET``
names. Without that variable nothing is sent and no thread is started.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.stale import stale_text

_log = logging.getLogger(__name__)

STATUS_S = 5.0
"""How often the status line may change, in seconds."""

AWAY_S = 120.0
"""How old the last try to reconnect may be, in seconds, for a source to count as on its way."""

_POLL_S = 1.0


class Notifier:
    """Sends lines to the service manager's socket.

    Args:
        address: a path, or ``@name`` in Linux' abstract namespace.
    """

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def send(self, *lines: str) -> None:
        """Send one message; a manager that is gone or busy is no error of the run."""
        message = "\n".join(" ".join(line.split("\n")) for line in lines)
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            _log.debug("cannot notify the service manager: %s", error)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


class Watch:
    """Says whether a run truly goes on, from its counters alone.

    A source goes on while its frames reach the outputs, while it is being reconnected (with
    tries that are made, see :data:`AWAY_S`), or once it has come to its end.

    Args:
        profilers: the clocks and counters of each source, by name.
        paused: whether a viewer holds the run.
    """

    def __init__(
        self, profilers: Mapping[str, Profiler], paused: Callable[[], bool] = lambda: False
    ) -> None:
        self._profilers = profilers
        self._paused = paused
        self._seen: dict[str, tuple[int, float]] = {}

    def started(self) -> bool:
        """Return whether each source has given a frame, is being reconnected, or has ended."""
        return all(
            profiler.ended is not None or profiler.frames_out > 0 or _is_away(profiler)
            for profiler in self._profilers.values()
        )

    def hung(self, within_s: float) -> str | None:
        """Return what hangs, or None while every source goes on.

        Args:
            within_s: how long a source may give nothing, since the last call that found it well.
        """
        now_s, paused, found = time.monotonic(), self._paused(), None
        for name, profiler in self._profilers.items():
            frames, well_s = self._seen.get(name, (-1, now_s))
            excused = paused or profiler.ended is not None or _is_away(profiler)
            if excused or profiler.frames_out != frames:
                self._seen[name] = (profiler.frames_out, now_s)
            elif now_s - well_s > within_s:
                found = found or f"{name}: no frame came out for {now_s - well_s:.1f} s"
        return found

    def status(self) -> str:
        """Return one line for people."""
        said = [_status(profiler) for profiler in self._profilers.values()]
        if len(said) > 1:
            said = [f"{name}: {text}" for name, text in zip(self._profilers, said, strict=True)]
        return "; ".join(said)


def _is_away(profiler: Profiler) -> bool:
    age_s = profiler.away_age_s()
    return age_s is not None and age_s < AWAY_S


def _status(profiler: Profiler) -> str:
    if profiler.ended is not None:
        return f"ended: {profiler.ended}"
    if _is_away(profiler):
        return f"reconnecting, {stale_text(profiler.last_frame_age_s() or 0.0)}"
    if not profiler.frames_out:
        return "starting"
    p50_ms, _ = profiler.live_latency_ms()
    text = f"{profiler.live_fps():.1f} frames/s, {p50_ms:.0f} ms, {profiler.frames_out} frames"
    dropped = sum(profiler.dropped.values())
    return f"{text}, {dropped} dropped" if dropped else text


class Service:
    """Tells the service manager of a run, from a thread of its own; a context manager.

    READY once :meth:`Watch.started`; WATCHDOG only while nothing hangs for longer than half of
    the manager's limit; STATUS; STOPPING when the run is to end.

    Args:
        profilers: the clocks and counters of each source, by name.
        stopping: whether the run was told to end.
        environment: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are.
    """

    def __init__(
        self,
        profilers: Mapping[str, Profiler],
        stopping: Callable[[], bool],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.paused: Callable[[], bool] = lambda: False
        self._watch = Watch(profilers, lambda: self.paused())
        self._stopping = stopping
        self._limit_s = watchdog_s(environment)
        self._over = threading.Event()
        self._notifier: Notifier | None = None
        self._thread: threading.Thread | None = None
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] in ("/", "@") and hasattr(socket, "AF_UNIX"):
            self._notifier = Notifier(address)

    def __enter__(self) -> Service:
        if self._notifier is not None:
            self._thread = threading.Thread(
                target=self._run, args=(self._notifier,), name="rtseg-service"
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None and self._notifier is not None:
            self._thread.join()
            self._notifier.close()

    def _run(self, notifier: Notifier) -> None:
        interval_s = _POLL_S if self._limit_s is None else min(_POLL_S, self._limit_s / 4)
        ready = False
        fed_s = told_s = float("-inf")
        status = hung = None
        while not self._over.is_set() and not self._stopping():
            now_s = time.monotonic()
            if not ready and self._watch.started():
                ready = True
                notifier.send("READY=1", f"STATUS={self._watch.status()}")
            if ready and self._limit_s is not None and now_s - fed_s >= self._limit_s / 4:
                was_well, hung = hung is None, self._watch.hung(self._limit_s / 2)
                if hung is None:
                    fed_s = now_s
                    notifier.send("WATCHDOG=1")
                elif was_well:
                    _log.error("HUNG: %s; the watchdog is not fed", hung, extra={"reason": "HUNG"})
            if now_s - told_s >= STATUS_S and (text := hung or self._watch.status()) != status:
                told_s, status = now_s, text
                notifier.send(f"STATUS={text}")
            self._over.wait(interval_s)
        notifier.send("STOPPING=1", "STATUS=finishing the outputs")


def watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return the service manager's limit in seconds, None where it sets none for this process.

    >>> watchdog_s({"WATCHDOG_USEC": "30000000"})
    30.0
    """
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        return None
    return None if pid and pid != str(os.getpid()) else int(text) / 1e6
