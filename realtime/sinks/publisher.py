"""Network outputs: a live stream for one receiver, which never holds the loop."""

from __future__ import annotations

import base64
import dataclasses
import logging
import threading
import time
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.frame import Rendered
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.failure import coding_errors
from rtseg.realtime.sinks.live_encoder import LiveEncoder
from rtseg.realtime.sinks.network import NetworkAddress
from rtseg.realtime.sinks.relay import Target
from rtseg.realtime.sinks.relay_process import RelayProcess
from rtseg.realtime.sinks.sink import Sink, SinkContext, SinkCounts, SinkSummary
from rtseg.realtime.sinks.sound import BEHIND_S, SoundFeed, Taken, open_feed
from rtseg.realtime.sinks.video import DEFAULT_FPS
from rtseg.realtime.slot import Closed, Slot
from rtseg.realtime.sources.backoff import HOPELESS, HOPELESS_TRIES, STEADY_S, Backoff

if TYPE_CHECKING:
    import av

    Packet = av.Packet[Any]

_log = logging.getLogger(__name__)

ANSWER_S = 15.0
"""How long a receiver may take to answer, the start of the relay included, in seconds."""

STALL_S = 10.0
"""How long a connected receiver may take nothing until it counts as lost, in seconds."""

LAST_SOUND_S = Fraction(1, 2)
"""How much sound behind the last picture still goes, in seconds."""

_LONGEST_PAUSE_S = 2.0
_POLL_S = 0.1


class NetworkSink(Sink):
    """Encodes pictures and sends them to an RTSP(S), RTMP(S) or UDP receiver.

    Everything happens in a thread of its own and, for the connection, in a process of its own:
    :meth:`write` only puts the newest picture where that thread finds it. A receiver that is
    absent, refuses, breaks, freezes or is too slow costs pictures, which are counted by reason
    before they are encoded; the connection is made anew with capped exponential back-off for as
    long as the run lasts.

    The source's first sound track goes along as it is, where the protocol takes its codec: from
    the first picture after the connection stood, and with the pictures that go. A log line says
    why where it does not.

    Pictures of a file are taken in real time, as a player would.

    Args:
        address: where the stream goes.
        options: codec and quality.
        backoff: how long to wait between tries.
        answer_s: how long a receiver may take to answer, in seconds.
        stall_s: how long a connected one may take nothing, in seconds.

    Raises:
        UsageError: a codec that cannot be sent there.
    """

    def __init__(
        self,
        address: NetworkAddress,
        options: EncodeOptions | None = None,
        *,
        backoff: Backoff | None = None,
        answer_s: float = ANSWER_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.name = address.shown
        self._address = address
        self._options = options if options is not None else EncodeOptions()
        encoder = self._options.resolved.encoder
        codecs = {"libx264": "h264", "libx265": "h265"}
        codec = codecs.get(encoder, "")
        if codec not in address.codecs:
            raise UsageError(
                f"{address.scheme} outputs are sent as {' or '.join(address.codecs)}. "
                f"Received: --codec {self._options.codec}"
            )
        self._target = Target(
            address.url,
            address.shown,
            address.container,
            "hevc" if codec == "h265" else codec,
            address.options,
        )
        self._backoff = backoff or Backoff()
        self._answer_s = answer_s
        self._stall_s = stall_s
        self._slot: Slot[Rendered] = Slot(1, "latest", self._too_many)
        self._thread: threading.Thread | None = None
        self._context: SinkContext | None = None
        self._sound: SoundFeed | None = None
        self._stop = threading.Event()
        self._ended = False
        self._connected = False
        self._lock = threading.Lock()
        self._dropped: Counter[str] = Counter()
        self._sent = 0
        self._connections = 0
        self._refused: tuple[str, int] = ("", 0)
        self._written_s = Fraction(0)
        self._start_s: float | None = None
        self._opened_s: float | None = None

    @property
    def sent(self) -> int:
        """How many pictures were handed to the connection."""
        return self._sent

    @property
    def dropped(self) -> dict[str, int]:
        """How many pictures were not sent: ``not_connected`` or ``slow_receiver``."""
        with self._lock:
            return dict(self._dropped)

    @property
    def connections(self) -> int:
        """How often a receiver was connected."""
        return self._connections

    def open(self, context: SinkContext) -> None:
        """Begin to connect; a receiver that is absent is no error. See :meth:`Sink.open`."""
        self._context = context
        if self._address.scheme == "rtmps":  # PyAV has no way to ask FFmpeg for it
            _log.warning("%s: encrypted, but the server's certificate is not checked", self.name)
        if self._options.audio:
            self._sound = open_feed(context.source.passthrough, self._address)
        self._thread = threading.Thread(target=self._run, name="rtseg-publish")
        self._thread.start()

    def write(self, item: Rendered) -> None:
        """Offer one picture; see :meth:`Sink.write`."""
        if self._context is None or self._ended:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        if item.picture is None:
            raise SinkError(f"{self.name} needs pictures. Received: none", reason="BAD_INPUT")
        if not self._context.source.live:
            self._wait_until_due(item.frame.pts_s)
        self._written_s = item.frame.pts * item.frame.time_base
        if self._sound is not None:
            self._sound.offer(item.frame.packets)
            self._sound.forget(self._written_s - BEHIND_S)
        try:
            self._slot.put(item)
        except Closed:  # given up for good
            self._drop("not_connected")

    def hear(self, packets: tuple[Packet, ...]) -> None:
        """Take sound that may be behind the next picture; see :meth:`Sink.hear`."""
        if self._sound is not None:
            self._sound.offer(packets)

    def write_packets(self, packets: tuple[Packet, ...]) -> None:
        """Take the sound after the last picture; see :meth:`Sink.write_packets`."""
        if self._sound is not None:
            self._sound.offer(packets)

    def close(self) -> None:
        """Send what waits, say goodbye and count; see :meth:`Sink.close`."""
        if self._ended:
            return
        self._ended = True
        if not self._connected:
            self._stop.set()
        self._slot.end()
        if self._thread is not None:
            self._thread.join(1.0)
            self._stop.set()
            self._thread.join()

    def summary(self) -> SinkSummary | None:
        """Return what was sent and what was not; see :meth:`Sink.summary`."""
        dropped = self.dropped
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        text = (
            f"{self._sent} pictures sent, {sum(dropped.values())} not{f' ({why})' if why else ''}; "
            f"connected {self._connections} {'time' if self._connections == 1 else 'times'}"
        )
        details = {
            "sent": self._sent,
            "dropped": dropped,
            "connections": self._connections,
            "sound": None if self._sound is None else self._sound.codec,
        }
        if self._sound is not None:
            text += f"; sound as {self._sound.codec}"
        return SinkSummary(self.name, (text,), details)

    def counts(self) -> SinkCounts:
        """Return what was sent so far and what was not; see :meth:`Sink.counts`."""
        return SinkCounts(self._sent, self.dropped, self._connections)

    def _wait_until_due(self, pts_s: float) -> None:
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s - pts_s
        early_s = min(_LONGEST_PAUSE_S, self._start_s + pts_s - now_s)
        if early_s > 0:
            self._stop.wait(early_s)
        else:  # too slow for real time: play slower, do not race to catch up
            self._start_s -= early_s

    def _too_many(self, dropped: Rendered, following: Rendered) -> Rendered:
        self._drop("slow_receiver" if self._connected else "not_connected")
        return following

    def _drop(self, reason: str) -> None:
        with self._lock:
            self._dropped[reason] += 1

    # -- the publishing thread -----------------------------------------------------------

    def _run(self) -> None:
        stood = False
        try:
            while not self._stop.is_set():
                try:
                    self._publish()
                    return
                except SinkError as lost:
                    if self._stop.is_set() or not self._again(lost):
                        return
                except Exception as error:  # what nobody thought of stops this output alone
                    self._give_up(f"INTERNAL: {self.name}: {type(error).__name__}: {error}")
                    return
                finally:
                    stood, self._connected = self._connected, False
                if self._was_steady():
                    self._backoff.reset()
                self._stop.wait(self._backoff.next_s())
        finally:
            for _ in self._slot.close():  # the run ended before it was its turn
                self._drop("slow_receiver" if stood else "not_connected")

    def _publish(self) -> None:
        """Connect and send until the end; return when no more pictures come."""
        assert self._context is not None
        self._opened_s = None
        first = self._next()
        if first is None:
            return
        context, source = self._context, self._context.source
        encoder = LiveEncoder(
            self._options,
            context.picture_width,
            context.picture_height,
            source.fps or DEFAULT_FPS,
            source.sample_aspect_ratio if context.sample_aspect_ratio_of_picture else Fraction(1),
        )
        begin_s = first.frame.pts * first.frame.time_base
        with RelayProcess(
            self._whole_target(), self._stop, answer_s=self._answer_s, stall_s=self._stall_s
        ) as relay:
            item: Rendered | None = first
            while item is not None:
                try:
                    packets = self._encoded(encoder, item, begin_s)
                    if self._connected:
                        self._send(relay, packets, item, begin_s)
                    elif all(map(relay.start, packets)):
                        self._say_connected()
                        encoder.ask_for_keyframe()  # the first one is old by now
                    else:
                        relay.kill()
                        self._drop("not_connected")
                        return
                except SinkError:
                    self._drop("not_connected")  # the picture that was on its way
                    raise
                self._sent += 1
                item = self._next(relay)
            if self._sound is not None and self._connected and not self._stop.is_set():
                for packet in self._sound.take(self._written_s + LAST_SOUND_S, begin_s).before:
                    relay.send(packet, sound=True)

    def _whole_target(self) -> Target:
        if self._sound is None:
            return self._target
        sound = base64.b64encode(self._sound.header).decode()
        return dataclasses.replace(self._target, sound=sound)

    def _send(
        self, relay: RelayProcess, packets: list[Packet], item: Rendered, begin_s: Fraction
    ) -> None:
        """Send a picture behind its sound."""
        sound = Taken()
        if self._sound is not None:
            sound = self._sound.take(item.frame.pts * item.frame.time_base, begin_s)
        for packet in sound.before:
            relay.send(packet, sound=True)
        for packet in packets:
            relay.send(packet)
        if sound.after is not None:
            relay.send(sound.after, sound=True)

    def _next(self, relay: RelayProcess | None = None) -> Rendered | None:
        """Return the newest picture, None at the end; watch the connection meanwhile."""
        while not self._stop.is_set():
            if relay is not None:
                relay.check()
            try:
                item = self._slot.get(_POLL_S)
            except Closed:
                return None
            if item is not None:
                return item
        return None

    def _encoded(self, encoder: LiveEncoder, item: Rendered, begin_s: Fraction) -> list[Packet]:
        assert item.picture is not None
        try:
            return encoder.encode(item.picture, item.frame.pts * item.frame.time_base - begin_s)
        except coding_errors() as error:
            raise SinkError(
                f"{self.name}: cannot encode as {self._options.codec}", reason="CODEC_UNSUPPORTED"
            ) from error

    def _say_connected(self) -> None:
        self._connected = True
        self._opened_s = time.monotonic()
        self._connections += 1
        self._refused = ("", 0)
        if self._sound is not None:
            self._sound.begin()
        if self._connections == 1:
            _log.info("CONNECTED: %s", self.name, extra={"reason": "CONNECTED"})
        else:
            _log.warning("RECONNECTED: %s", self.name, extra={"reason": "RECONNECTED"})

    def _again(self, lost: SinkError) -> bool:
        """Say why there is no connection; return whether to try again."""
        reason, count = self._refused
        count = count + 1 if lost.reason == reason else 1
        self._refused = (lost.reason, count)
        if lost.reason in HOPELESS and count >= HOPELESS_TRIES:
            self._give_up(f"{lost.reason}: {lost}; given up after {count} tries")
            return False
        # The same word again and again for a week helps nobody.
        level = logging.WARNING if count == 1 else logging.INFO
        _log.log(level, "%s: %s; trying again", lost.reason, lost, extra={"reason": lost.reason})
        return True

    def _was_steady(self) -> bool:
        return self._opened_s is not None and time.monotonic() - self._opened_s > STEADY_S

    def _give_up(self, why: str) -> None:
        _log.error("%s; the run goes on without this output", why)
