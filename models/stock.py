"""The training data in memory: decoded once, drawn by weight, in an exact order.

Every sample's randomness comes from (seed, its number), so a resumed run sees the
images it would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.camvid import find_camvid, read_camvid_label, to_cityscapes_table
from rtseg.calibration.cityscapes import Sample, find_samples, read_image, read_label
from rtseg.engines.labels import CITYSCAPES
from rtseg.models.augment import U8, draw_view, join_views, mix_views
from rtseg.models.config import AugmentConfig, Phase, SourceConfig, sides
from rtseg.models.errors import ModelError
from rtseg.models.paste import paste_things
from rtseg.models.unions import COUNTED, agreement, camvid_unions_table

#: Images are kept at most this large (width, height); the network sees fewer columns.
MAX_IMAGE = (1024, 512)
MAX_LABEL = (2048, 1024)
#: A label this coarse is smoothed to twice its size, or its blocks would be learnt.
COARSE_WIDTH = 512
#: Labels are searched for a class on a grid of so many pixels.
FOCUS_STEP = 4
#: Third number of the seed of mixed views, beside those of each view.
MIX_STREAM, PASTE_STREAM = 1, 2


@dataclass(frozen=True)
class Item:
    """One decoded image: a pyramid of RGB uint8 images and a label of trainIds or unions.

    Attributes:
        soft: a teacher's probabilities, uint8 (C, h, w), or None.
    """

    images: tuple[U8, ...]
    label: U8
    sharp: bool
    soft: U8 | None = None


@dataclass(frozen=True)
class Stock:
    """All decoded items, the share of each source, and the class frequencies."""

    items: tuple[tuple[Item, ...], ...]
    shares: NDArray[np.float64]
    frequencies: NDArray[np.float64] = field(repr=False)

    @cached_property
    def holders(self) -> list[list[NDArray[np.intp]]]:
        """By source and class: the numbers of the items that show the class."""
        table = []
        for source in self.items:
            shown = np.zeros((len(source), 256), bool)
            for row, item in enumerate(source):
                shown[row, COUNTED[np.unique(item.label[::FOCUS_STEP, ::FOCUS_STEP])]] = True
            table.append([np.flatnonzero(shown[:, c]) for c in range(len(CITYSCAPES))])
        return table

    @cached_property
    def rarity(self) -> NDArray[np.float64]:
        """Probability (C,) of each class to be the one that a rare view is cut around."""
        odds = np.where(self.frequencies > 0, 1 / np.sqrt(np.maximum(self.frequencies, 1e-6)), 0)
        return np.asarray(odds / odds.sum())

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


def soften(
    item: Item,
    see: Callable[[U8], NDArray[np.float32]],
    source: SourceConfig,
) -> Item:
    """Add a teacher's probabilities to an item, at a quarter of 1024x512."""
    classes = len(CITYSCAPES)
    size = (MAX_IMAGE[0] // 4, MAX_IMAGE[1] // 4)
    planes = [
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        for plane in see(item.images[0])[:classes]
    ]
    if source.unions:
        allowed = agreement(item.label)
        planes = [
            plane * cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            for plane, part in zip(planes, allowed, strict=True)
        ]
    soft = np.round(255.0 * np.stack(planes)).astype(np.uint8)
    soft[:, round(soft.shape[1] * (1.0 - source.bonnet)) :] = 0
    return replace(item, soft=soft)


def load_item(sample: Sample, source: SourceConfig) -> Item:
    """Decode one sample; large images also at half size, for views that shrink them."""
    image = _fit(read_image(sample.image), MAX_IMAGE, cv2.INTER_AREA)
    if source.kind == "camvid":
        table = camvid_unions_table() if source.unions else to_cityscapes_table()
        label = table[read_camvid_label(sample)]
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
    teacher: Callable[[U8], NDArray[np.float32]] | None = None,
) -> Stock:
    """Decode every image of every source.

    Args:
        sources: the data sets.
        data_root: where relative roots lie.
        limit: at most so many images of each source (for tests and probes).
        progress: receives one line a source.
        teacher: from RGB uint8 (h, w, 3) to probabilities (C, H, W), asked once for
            each image of the sources marked ``soft``.

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
        if source.soft and teacher is not None:
            loaded = tuple(soften(item, teacher, source) for item in loaded)
        counts = np.zeros(256)
        for item in loaded:
            part = np.bincount(COUNTED[item.label[::4, ::4]].ravel(), minlength=256)
            counts += part / max(part.sum(), 1)
        frequencies += share * counts[: len(CITYSCAPES)] / len(loaded)
        items.append(loaded)
        progress(f"{root}: {len(loaded)} images, {100 * share:.0f} % of the draws")
    return Stock(tuple(items), shares, frequencies / max(frequencies.sum(), 1e-12))


def class_weights(frequencies: NDArray[np.float64], *, cap: float = 4.0) -> NDArray[np.float32]:
    """Weights of the loss (C,): inverse square root of frequency, capped, mean 1 a pixel.

    Classes that never occur get the cap. A cap of 1, or no label at all: every weight is 1.
    """
    if cap <= 1.0 or not frequencies.any():
        return np.ones(len(frequencies), np.float32)
    weights = 1.0 / np.sqrt(np.maximum(frequencies, 1e-6))
    weights /= float((weights * frequencies).sum())
    for _ in range(4):  # capping moves the mean; a few rounds settle it
        weights = np.minimum(weights, cap)
        weights /= float((weights * frequencies).sum())
    return np.asarray(np.minimum(weights, cap), np.float32)


def find_focus(item: Item, wanted: int, rng: np.random.Generator) -> tuple[float, float] | None:
    """Draw a pixel of class ``wanted``: (x, y) in parts of the frame, None without any."""
    rows, columns = np.nonzero(COUNTED[item.label[::FOCUS_STEP, ::FOCUS_STEP]] == wanted)
    if not len(rows):
        return None
    chosen = int(rng.integers(len(rows)))
    height, width = item.label.shape
    return (
        float(columns[chosen] * FOCUS_STEP + 0.5) / width,
        float(rows[chosen] * FOCUS_STEP + 0.5) / height,
    )


def draw_sample(
    stock: Stock,
    number: int,
    seed: int,
    config: AugmentConfig,
    nominal: int | tuple[int, int],
    crop: int | tuple[int, int],
    rare: float = 0.0,
) -> tuple[U8, U8, U8 | None]:
    """Draw training view ``number``: the same for the same arguments, always.

    With probability ``rare`` it is cut around a pixel of a class drawn by its rarity
    (rare class sampling of DAFormer, Hoyer et al. 2022, within each source); with
    probability ``config.mosaic`` it is put together from four such views of half the side
    (mosaic of YOLOv4, Bochkovskiy et al. 2020).
    """
    rng = np.random.default_rng((seed, number))
    if config.mosaic and rng.random() < config.mosaic:
        small = replace(config, scale=config.mosaic_scale)
        rows, columns = sides(crop)
        half = (columns // 2, rows // 2)
        parts = [_draw_one(stock, rng, small, nominal, half, rare) for _ in range(4)]
        return join_views(parts)
    return _draw_one(stock, rng, config, nominal, crop, rare)


def _draw_one(
    stock: Stock,
    rng: np.random.Generator,
    config: AugmentConfig,
    nominal: int | tuple[int, int],
    crop: int | tuple[int, int],
    rare: float,
) -> tuple[U8, U8, U8 | None]:
    place = int(rng.choice(len(stock.items), p=stock.shares))
    source = stock.items[place]
    item, focus = source[int(rng.integers(len(source)))], None
    if rare and rng.random() < rare:
        wanted = int(rng.choice(len(stock.rarity), p=stock.rarity))
        holders = stock.holders[place][wanted]
        if len(holders):
            item = source[int(holders[int(rng.integers(len(holders)))])]
            focus = find_focus(item, wanted, rng)
    image = item.images[int(rng.integers(len(item.images)))]
    return draw_view(
        image,
        item.label,
        rng,
        config,
        nominal=nominal,
        crop=crop,
        sharp=item.sharp,
        soft=item.soft,
        focus=focus,
    )


@dataclass(frozen=True)
class Batch:
    """Training views.

    Attributes:
        images: RGB uint8 (N, H, W, 3), of the crop's size.
        labels: trainIds and unions (`rtseg.models.unions`), uint8 (N, H, W).
        next_sample: number of the first view of the next batch.
        soft: a teacher's probabilities, uint8 (N, C, H / 4, W / 4), all 0 for a view
            without; None for a batch without.
    """

    images: U8
    labels: U8
    next_sample: int
    soft: U8 | None = None


def _batch(views: Sequence[tuple[U8, U8, U8 | None]], next_sample: int) -> Batch:
    given = next((soft for _, _, soft in views if soft is not None), None)
    soft = None
    if given is not None:
        nothing = np.zeros_like(given)
        soft = np.stack([nothing if part is None else part for _, _, part in views])
    images = np.stack([image for image, _, _ in views])
    labels = np.stack([label for _, label, _ in views])
    return Batch(images, labels, next_sample, soft)


class BatchLoader:
    """Draws batches in a thread of its own; a context manager.

    ``phase`` is called before each batch with the number of its step, counted from ``step``,
    and returns what holds there, so that a run may change batch size, crop and the limits of
    its views on the way (``config`` where the phase has none of its own). Batches are drawn
    ahead of the run: it must go by that number, not by where the run is. ``workers`` is how many
    threads draw the views of a batch at once; the batches are the same for any number.
    """

    def __init__(
        self,
        stock: Stock,
        config: AugmentConfig,
        *,
        seed: int,
        nominal: int | tuple[int, int],
        phase: Callable[[int], Phase],
        start: int = 0,
        step: int = 0,
        depth: int = 3,
        rare: float = 0.0,
        workers: int = 1,
    ) -> None:
        self._workers = workers
        self._stock, self._config, self._rare = stock, config, rare
        self._seed, self._nominal, self._phase = seed, nominal, phase
        self._next, self._step = start, step
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

    def _draw(
        self, limits: AugmentConfig, crop: int | tuple[int, int], number: int
    ) -> tuple[U8, U8, U8 | None]:
        nominal = self._nominal
        return draw_sample(self._stock, number, self._seed, limits, nominal, crop, self._rare)

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(self._workers, "views") as workers:
                self._draw_batches(workers)
        except BaseException as error:
            self._put(error)

    def _draw_batches(self, workers: ThreadPoolExecutor) -> None:
        while not self._stop.is_set():
            phase = self._phase(self._step)
            limits = phase.augment or self._config
            count = phase.batch
            numbers = range(self._next, self._next + count)
            views = list(workers.map(partial(self._draw, limits, phase.crop), numbers))
            # Keyed by the batch's first view, so that a resumed run mixes the same.
            if limits.mix:
                rng = np.random.default_rng((self._seed, self._next, MIX_STREAM))
                views = mix_views(views, rng, limits.mix)
            if limits.paste:
                rng = np.random.default_rng((self._seed, self._next, PASTE_STREAM))
                views = paste_things(views, rng, limits.paste)
            self._next += count
            self._step += 1
            self._put(_batch(views, self._next))

    def _put(self, what: Batch | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(what, timeout=0.2)
                return
            except queue.Full:
                continue
