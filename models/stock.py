"""The training data in memory: decoded once, drawn by weight, in an exact order.

Every sample's randomness comes from (seed, its number), so a resumed run sees the
images it would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.camvid import find_camvid, read_camvid_label, to_cityscapes_table
from rtseg.calibration.cityscapes import Sample, find_samples, read_image, read_label
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.models.augment import U8, draw_view
from rtseg.models.config import AugmentConfig, SourceConfig
from rtseg.models.errors import ModelError

#: Images are kept at most this large (width, height); the network sees 512 columns.
MAX_IMAGE = (1024, 512)
MAX_LABEL = (2048, 1024)
#: A label this coarse is smoothed to twice its size, or its blocks would be learnt.
COARSE_WIDTH = 512


@dataclass(frozen=True)
class Item:
    """One decoded image: a pyramid of RGB uint8 images and a label of trainIds."""

    images: tuple[U8, ...]
    label: U8
    sharp: bool


@dataclass(frozen=True)
class Stock:
    """All decoded items, the share of each source, and the class frequencies."""

    items: tuple[tuple[Item, ...], ...]
    shares: NDArray[np.float64]
    frequencies: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return sum(len(source) for source in self.items)


def smooth_label(label: U8, factor: int = 2) -> U8:
    """Enlarge a label, choosing each pixel by bilinear vote instead of blocks."""
    height, width = label.shape
    present = np.unique(label)
    votes = np.stack([(label == value).astype(np.float32) for value in present], axis=2)
    votes = cv2.resize(
        votes, (width * factor, height * factor), interpolation=cv2.INTER_LINEAR
    ).reshape(height * factor, width * factor, len(present))
    return np.asarray(present[votes.argmax(axis=2)], np.uint8)


def _fit(image: U8, limit: tuple[int, int], interpolation: int) -> U8:
    height, width = image.shape[:2]
    ratio = max(width / limit[0], height / limit[1])
    if ratio <= 1.0:
        return image
    size = (round(width / ratio), round(height / ratio))
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def load_item(sample: Sample, source: SourceConfig) -> Item:
    """Decode one sample; large images also at half size, for views that shrink them."""
    image = _fit(read_image(sample.image), MAX_IMAGE, cv2.INTER_AREA)
    if source.kind == "camvid":
        label = to_cityscapes_table()[read_camvid_label(sample)]
    else:
        label = _fit(read_label(sample), MAX_LABEL, cv2.INTER_NEAREST)
    if label.shape[1] < COARSE_WIDTH and source.kind == "cityscapes":
        label = smooth_label(label)
    images = [image]
    if image.shape[1] >= 1024:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        images.append(np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8))
    return Item(tuple(images), label, source.sharp)


def load_stock(
    sources: Sequence[SourceConfig],
    data_root: Path,
    *,
    limit: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Stock:
    """Decode every image of every source.

    Args:
        sources: the data sets.
        data_root: where relative roots lie.
        limit: at most so many images of each source (for tests and probes).
        progress: receives one line a source.

    Raises:
        ModelError: no source, or an unknown kind.
        CalibrationError: a data set is missing, incomplete or wrongly encoded.
    """
    if not sources:
        raise ModelError("no data source given; at least one is needed", reason="BAD_CONFIG")
    frequencies = np.zeros(len(CITYSCAPES))
    items: list[tuple[Item, ...]] = []
    shares = np.array([source.share for source in sources], np.float64)
    if not (np.isfinite(shares).all() and (shares > 0).all()):
        raise ModelError(
            f"shares must be positive numbers. Received: {shares.tolist()}", reason="BAD_CONFIG"
        )
    shares /= shares.sum()
    for source, share in zip(sources, shares, strict=True):
        root = data_root / source.root
        if source.kind == "camvid":
            samples = find_camvid(root, source.split)
        elif source.kind == "cityscapes":
            samples = find_samples(root, source.split)
        else:
            raise ModelError(
                f"unknown data kind {source.kind!r}. Allowed: cityscapes, camvid",
                reason="BAD_CONFIG",
            )
        loaded = tuple(load_item(sample, source) for sample in samples[:limit])
        counts = np.zeros(256)
        for item in loaded:
            part = np.bincount(item.label[::4, ::4].ravel(), minlength=256)
            counts += part / max(part.sum(), 1)
        frequencies += share * counts[: len(CITYSCAPES)] / len(loaded)
        items.append(loaded)
        progress(f"{root}: {len(loaded)} images, {100 * share:.0f} % of the draws")
    return Stock(tuple(items), shares, frequencies / max(frequencies.sum(), 1e-12))


def class_weights(frequencies: NDArray[np.float64], *, cap: float = 4.0) -> NDArray[np.float32]:
    """Weights of the loss (C,): inverse square root of frequency, capped, mean 1 a pixel.

    Classes that never occur get the cap.
    """
    weights = 1.0 / np.sqrt(np.maximum(frequencies, 1e-6))
    weights /= float((weights * frequencies).sum())
    for _ in range(4):  # capping moves the mean; a few rounds settle it
        weights = np.minimum(weights, cap)
        weights /= float((weights * frequencies).sum())
    return np.asarray(np.minimum(weights, cap), np.float32)


def draw_sample(
    stock: Stock, number: int, seed: int, config: AugmentConfig, nominal: int, crop: int
) -> tuple[U8, U8]:
    """Draw training view ``number``: the same for the same arguments, always."""
    rng = np.random.default_rng((seed, number))
    source = stock.items[int(rng.choice(len(stock.items), p=stock.shares))]
    item = source[int(rng.integers(len(source)))]
    image = item.images[int(rng.integers(len(item.images)))]
    return draw_view(image, item.label, rng, config, nominal=nominal, crop=crop, sharp=item.sharp)


@dataclass(frozen=True)
class Batch:
    """Images RGB uint8 (N, crop, crop, 3), trainIds uint8 (N, crop, crop), next number."""

    images: U8
    labels: U8
    next_sample: int


class BatchLoader:
    """Draws batches in a thread of its own; a context manager.

    ``size`` is called before each batch with its first sample's number and returns
    (batch size, crop), so that a run may change both on the way.
    """

    def __init__(
        self,
        stock: Stock,
        config: AugmentConfig,
        *,
        seed: int,
        nominal: int,
        size: Callable[[], tuple[int, int]],
        start: int = 0,
        depth: int = 3,
    ) -> None:
        self._stock, self._config = stock, config
        self._seed, self._nominal, self._size = seed, nominal, size
        self._next = start
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batches")

    def __enter__(self) -> BatchLoader:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            got = self._queue.get()
            if isinstance(got, BaseException):
                raise got
            yield got

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                count, crop = self._size()
                images = np.empty((count, crop, crop, 3), np.uint8)
                labels = np.full((count, crop, crop), VOID_ID, np.uint8)
                for row in range(count):
                    images[row], labels[row] = draw_sample(
                        self._stock,
                        self._next + row,
                        self._seed,
                        self._config,
                        self._nominal,
                        crop,
                    )
                self._next += count
                self._put(Batch(images, labels, self._next))
        except BaseException as error:
            self._put(error)

    def _put(self, what: Batch | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(what, timeout=0.2)
                return
            except queue.Full:
                continue
