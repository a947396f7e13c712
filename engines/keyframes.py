"""The temporal shortcut: the network on every n-th frame, its labels moved along in between."""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.engine import U8, Engine, EngineProfile, EngineTiming, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.spec import EngineSpec

F32 = NDArray[np.float32]

FLOW_SIDE = 256
"""The flow is computed on gray pictures of so many rows and columns at most."""

CUT = 25.0
"""A mean difference of the gray values (0..255) beyond which a new scene begins.

Neighbouring frames of drives differ by 10 at most, most pairs of different videos by over 30."""


@dataclass
class _Seen:
    """One frame: what is needed for its labels, until they are known."""

    key: Handle | None
    gray: U8
    before: _Seen | None
    labels: U8 | None = None
    infer_ms: float = 0.0
    beside_ms: float = 0.0


class KeyframeEngine(Engine):
    """Runs another engine on every ``every``-th frame of one video and carries labels on.

    The labels of the frames between are those of the frame before, moved along the optical
    flow (DIS: Kroeger et al. 2016, OpenCV's ``ULTRAFAST`` preset, on small gray pictures). A new
    scene is a key frame whenever it comes. For one source: frames have to be submitted in
    their order.

    Args:
        inner: the engine, open; closed with this one.
        every: how many frames share one inference, at least 2.

    Raises:
        EngineError: ``BAD_INPUT`` where ``every`` is less.
    """

    def __init__(self, inner: Engine, every: int) -> None:
        import cv2

        if every < 2:
            raise EngineError(
                f"key frames are every 2nd or fewer. Received: {every}", reason="BAD_INPUT"
            )
        self._inner = inner
        self._every = every
        self._closed = False
        self._since_key = 0
        self._last: _Seen | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._submitting = threading.Lock()
        self._resolving = threading.Lock()
        self._grid: F32 | None = None
        said = f"network on one frame in {every}"
        self.quality = f"{inner.quality}; {said}" if inner.quality else said

    @property
    def spec(self) -> EngineSpec:
        """What the network expects and what its class ids mean."""
        return self._inner.spec

    @property
    def requests(self) -> int:
        """How many inferences may be in flight before ``submit`` waits."""
        return self._inner.requests

    def infer(self, frames: U8) -> U8:
        """Run the network on pictures that are no part of the video; see :meth:`Engine.infer`."""
        return self._inner.infer(frames)

    def forget(self) -> None:
        """Let the next frame be a key frame; see :meth:`Engine.forget`."""
        with self._submitting:
            self._last = None

    def submit(self, frames: U8) -> Handle:
        """Start an inference where a key frame is due; see :meth:`Engine.submit`."""
        if self._closed:
            raise EngineError("the engine is closed", reason="ENGINE_CLOSED")
        self.check_frames(frames)
        if len(frames) == 0:
            raise EngineError(
                "frames must hold at least one frame. Received: 0", reason="BAD_INPUT"
            )
        with self._submitting:
            return Handle([self._see(frames[index : index + 1]) for index in range(len(frames))])

    def result(self, handle: Handle) -> U8:
        """Wait for class ids, or move the ones before; see :meth:`Engine.result`."""
        seen = handle.payload
        if not isinstance(seen, list):
            raise EngineError(
                "the handle is not one of this engine, or was taken already", reason="BAD_INPUT"
            )
        handle.payload = None
        with self._resolving:
            labels = np.stack([self._labels_of(each) for each in seen])
        handle.timing = EngineTiming(
            infer_ms=sum(each.infer_ms for each in seen),
            beside_ms=sum(each.beside_ms for each in seen),
        )
        return labels

    def profile(self) -> EngineProfile:
        """What the engine runs on."""
        return dataclasses.replace(self._inner.profile(), quality=self.quality)

    def close(self) -> None:
        """Close the engine inside. May be called more than once."""
        self._closed = True
        self._last = None
        self._inner.close()

    def _see(self, frame: U8) -> _Seen:
        gray = _small_gray(frame[0])
        before = self._last
        due = before is None or self._since_key + 1 >= self._every or _is_cut(gray, before.gray)
        if due:
            seen = _Seen(self._inner.submit(frame), gray, None)
            self._since_key = 0
        else:
            seen = _Seen(None, gray, before)
            self._since_key += 1
        self._last = seen
        return seen

    def _labels_of(self, seen: _Seen) -> U8:
        pending = [seen]
        while pending[-1].labels is None and pending[-1].before is not None:
            pending.append(pending[-1].before)
        for each in reversed(pending):
            if each.labels is not None:
                continue
            if each.key is not None:
                key, each.key = each.key, None
                each.labels = self._inner.result(key)[0]
                timing = key.timing or EngineTiming()
                each.infer_ms, each.beside_ms = timing.infer_ms, timing.beside_ms
                continue
            if each.before is None or each.before.labels is None:
                raise EngineError("the key frame of this frame failed", reason="ENGINE_FAILED")
            began_ns = time.perf_counter_ns()
            flow: F32 = self._flow.calc(each.gray, each.before.gray, None)
            each.labels = self._moved(each.before.labels, flow)
            each.before = None  # a chain would keep every frame there was
            each.infer_ms = each.beside_ms = (time.perf_counter_ns() - began_ns) / 1e6
        assert seen.labels is not None
        return seen.labels

    def _moved(self, labels: U8, flow: F32) -> U8:
        """Return labels fetched from where the flow points; the rim repeats beyond the frame."""
        import cv2

        height, width = labels.shape
        if self._grid is None:
            self._grid = np.dstack(np.meshgrid(*map(np.arange, (width, height)))).astype(np.float32)
        enlargement = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
        places = cv2.resize(flow * enlargement, (width, height))
        cv2.add(places, self._grid, places)
        moved: U8 = cv2.remap(
            labels, places, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
        return moved


def _small_gray(frame: U8) -> U8:
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, FLOW_SIDE / max(height, width))
    # the flow needs 16 pixels either way
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    gray: U8 = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    # Means of whole squares are quick; what is left of the way is less than by half.
    while min(gray.shape[1] / size[0], gray.shape[0] / size[1]) >= 2:
        if gray.shape[0] % 2 or gray.shape[1] % 2:
            break
        half = (gray.shape[1] // 2, gray.shape[0] // 2)
        gray = cv2.resize(gray, half, interpolation=cv2.INTER_AREA)
    way = cv2.INTER_AREA if gray.shape[1] >= 2 * size[0] else cv2.INTER_LINEAR
    small: U8 = cv2.resize(gray, size, interpolation=way)
    return small


def _is_cut(gray: U8, before: U8) -> bool:
    import cv2

    return float(cv2.mean(cv2.absdiff(gray, before))[0]) > CUT
