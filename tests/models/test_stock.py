from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.calibration.errors import CalibrationError
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.models.augment import draw_view, geometry
from rtseg.models.config import AugmentConfig, Phase, SourceConfig
from rtseg.models.errors import ModelError
from rtseg.models.stock import (
    BatchLoader,
    Stock,
    class_weights,
    draw_sample,
    load_stock,
    smooth_label,
)
from tests.models.scenes import scene, write_camvid, write_cityscapes

STILL = AugmentConfig(
    brightness=0, contrast=0, saturation=0, hue=0, blur=0, jpeg=0, noise=0, scale=(0.6, 1.8)
)


def make_stock(root: Path) -> Stock:
    write_cityscapes(root / "city", count=3, image_size=(1024, 512), label_size=(1024, 512))
    write_camvid(root / "camvid")
    sources = [SourceConfig("city", 3), SourceConfig("camvid", 1, kind="camvid")]
    return load_stock(sources, root)


@pytest.mark.parametrize("label_width", [128, 256, 1024])
def test_image_and_label_stay_together(label_width: int) -> None:
    """The label of a view is the class whose colour the view shows, whatever the geometry."""
    palette = np.array(CITYSCAPES.palette, np.int16)
    image, _ = scene(3, 512, 256)
    _, label = scene(3, 512, 256)
    step = max(1, 512 // label_width)
    label = label[step // 2 :: step, step // 2 :: step]
    if label_width > 512:
        label = np.repeat(np.repeat(label, 2, 0), 2, 1)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        view, target, _ = draw_view(image, label, rng, STILL, nominal=256, crop=192, sharp=True)
        shown = np.abs(view[:, :, None].astype(np.int16) - palette).sum(-1)
        inside = target != 255
        right = np.take_along_axis(
            shown, np.where(inside, target, 0)[:, :, None].astype(np.int64), 2
        )[:, :, 0]
        # Only edges may differ, where colours mix.
        assert (right[inside] < 30).mean() > 0.9, seed


def test_a_view_depends_on_its_number_alone(tmp_path: Path) -> None:
    stock = make_stock(tmp_path)
    assert len(stock) == 5
    config = AugmentConfig()
    first = draw_sample(stock, 17, 4, config, 128, 64)
    draw_sample(stock, 18, 4, config, 128, 64)
    again = draw_sample(stock, 17, 4, config, 128, 64)
    other = draw_sample(stock, 17, 5, config, 128, 64)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_a_mosaic_holds_four_small_views(tmp_path: Path) -> None:
    """At a scale where a frame just fills a quarter, all of every quarter is labelled."""
    stock = make_stock(tmp_path)
    whole = AugmentConfig(aspect=1.0, scale=(0.25, 0.25))
    mosaic = AugmentConfig(aspect=1.0, mosaic=1.0, mosaic_scale=(0.25, 0.25))
    _, alone, _ = draw_sample(stock, 3, 0, whole, 128, 64)
    assert (alone == VOID_ID).mean() == pytest.approx(0.75, abs=0.1)
    image, label, _ = draw_sample(stock, 3, 0, mosaic, 128, 64)
    assert image.shape == (64, 64, 3)
    assert label.shape == (64, 64)
    assert (label == VOID_ID).mean() < 0.2
    quarters = [image[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
    assert not any(np.array_equal(quarters[0], other) for other in quarters[1:])


def test_shares_are_drawn(tmp_path: Path) -> None:
    stock = make_stock(tmp_path)
    assert stock.shares.tolist() == [0.75, 0.25]
    assert stock.frequencies.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("mix", "paste", "mosaic", "workers"),
    [
        (0.0, 0.0, 0.0, 1),
        (1.0, 0.0, 0.0, 1),
        (1.0, 0.0, 0.0, 3),
        (0.0, 1.0, 0.0, 3),
        (0.5, 0.5, 0.5, 3),
    ],
)
def test_the_loader_resumes_in_the_same_place(
    tmp_path: Path, mix: float, paste: float, mosaic: float, workers: int
) -> None:
    """With any number of workers at that."""
    stock = make_stock(tmp_path)

    def batches(
        start: int, count: int, workers: int = 1
    ) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        with BatchLoader(
            stock,
            AugmentConfig(mix=mix, paste=paste, mosaic=mosaic),
            seed=1,
            nominal=128,
            phase=lambda step: Phase(1.0, 64, 2),
            start=start,
            workers=workers,
        ) as loader:
            return [batch.images for batch, _ in zip(loader, range(count), strict=False)]

    whole, tail = batches(0, 4), batches(4, 2, workers)
    assert np.array_equal(whole[2], tail[0])
    assert np.array_equal(whole[3], tail[1])


def test_a_phase_may_have_limits_of_its_own(tmp_path: Path) -> None:
    """Here the whole frame, nothing changed and nothing mixed in, after two steps of the run's."""
    stock = make_stock(tmp_path)
    usual = AugmentConfig(mix=1.0, paste=1.0)

    def phase(step: int) -> Phase:
        return Phase(0.5, 64, 2) if step < 2 else Phase(1.0, 64, 2, STILL)

    def views(limits: AugmentConfig, steps: range) -> list[Any]:
        with BatchLoader(
            stock,
            limits,
            seed=1,
            nominal=64,
            phase=lambda step: Phase(1.0, 64, 2),
            start=2 * steps.start,
            step=steps.start,
        ) as loader:
            return [batch.images for batch, _ in zip(loader, steps, strict=False)]

    with BatchLoader(stock, usual, seed=1, nominal=64, phase=phase) as loader:
        both = [batch.images for batch, _ in zip(loader, range(4), strict=False)]
    assert np.array_equal(both[:2], views(usual, range(2)))
    assert np.array_equal(both[2:], views(STILL, range(2, 4)))
    assert not np.array_equal(both[2:], views(usual, range(2, 4)))


def test_an_error_in_the_loader_reaches_the_caller(tmp_path: Path) -> None:
    def phase(step: int) -> Phase:
        raise RuntimeError("no phase")

    loader = BatchLoader(make_stock(tmp_path), AugmentConfig(), seed=1, nominal=128, phase=phase)
    with pytest.raises(RuntimeError, match="no phase"), loader as running:
        next(iter(running))


def test_class_weights_average_one_and_are_capped() -> None:
    frequencies = np.array([0.7, 0.25, 0.05 - 1e-7, 1e-7, 0.0])
    weights = class_weights(frequencies, cap=3.0)
    assert (weights * frequencies).sum() == pytest.approx(1.0, abs=1e-3)
    assert weights.max() <= 3.0
    assert (np.diff(weights) >= 0).all()
    assert weights[4] == 3.0


@pytest.mark.parametrize(("frequencies", "cap"), [([0.7, 0.25, 0.05], 1.0), ([0.0, 0.0, 0.0], 4.0)])
def test_no_weights_where_none_are_asked_for_or_none_can_be(
    frequencies: list[float], cap: float
) -> None:
    assert class_weights(np.array(frequencies), cap=cap).tolist() == [1.0, 1.0, 1.0]


def test_smoothing_keeps_classes_and_large_areas() -> None:
    label = np.zeros((8, 8), np.uint8)
    label[:, 4:] = 255
    big = smooth_label(label)
    assert big.shape == (16, 16)
    assert (big[:, :7] == 0).all()
    assert (big[:, 9:] == 255).all()


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="at least one"):
        load_stock([], tmp_path)
    with pytest.raises(CalibrationError, match="no such data set folder"):
        load_stock([SourceConfig("missing", 1)], tmp_path)
    with pytest.raises(ModelError, match="Allowed: cityscapes, camvid"):
        load_stock([SourceConfig("x", 1, kind="kitti")], tmp_path)


def test_rare_views_show_the_class_they_are_cut_around(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "city", count=3, image_size=(256, 128), label_size=(256, 128))
    label = np.zeros((128, 256), np.uint8)
    label[60:68, 200:212] = 17
    label[:20] = 10
    path = next((tmp_path / "city" / "gtFine").rglob("*000001_000019*"))
    cv2.imwrite(str(path), label)
    stock = load_stock([SourceConfig("city", 1)], tmp_path)
    assert stock.rarity.sum() == pytest.approx(1)
    assert np.array_equal(stock.rarity > 0, stock.frequencies > 0)
    assert stock.rarity[17] > 3 * stock.rarity[0]
    for place in stock.holders[0][17]:
        assert (stock.items[0][place].label == 17).any()
    assert 1 in stock.holders[0][17]
    plain, rare = (
        np.mean(
            [
                (draw_sample(stock, n, 0, AugmentConfig(), 256, 64, share)[1] == 17).any()
                for n in range(150)
            ]
        )
        for share in (0.0, 1.0)
    )
    assert rare > plain + 0.5 * stock.rarity[17]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_a_view_shows_its_focus(x: float, y: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale_x, scale_y, x0, y0, flip = geometry(rng, AugmentConfig(), 512, 128, (x, y))
    across = (1 - x if flip else x) * scale_x - x0
    down = y * scale_y - y0
    assert -1e-6 <= across <= 128 + 1e-6
    assert -1e-6 <= down <= 128 + 1e-6


def test_a_teachers_view_lies_on_the_labels(tmp_path: Path) -> None:
    """Probabilities are cut like the labels: where a view has a class, they say so."""
    write_cityscapes(tmp_path / "city", count=2, image_size=(1024, 512), label_size=(1024, 512))
    palette = np.array(CITYSCAPES.palette, np.int16)

    def see(image: np.ndarray) -> np.ndarray:
        nearest = np.abs(image[:, :, None].astype(np.int16) - palette).sum(-1).argmin(-1)
        return (np.arange(20)[:, None, None] == nearest).astype(np.float32)

    source = SourceConfig("city", 1, soft=True, bonnet=0.25)
    stock = load_stock([source], tmp_path, teacher=see)
    assert load_stock([source], tmp_path).items[0][0].soft is None
    soft = stock.items[0][0].soft
    assert soft is not None
    assert soft.shape == (19, 128, 256)
    assert not soft[:, 96:].any()
    for number in range(12):
        _, target, moved = draw_sample(stock, number, 0, STILL, 256, 192)
        assert moved is not None
        cells = target[2::4, 2::4]
        sure = moved.max(0) > 200
        assert (moved.argmax(0)[sure] == cells[sure]).mean() > 0.97, number


def test_views_may_be_wide_and_still_mixed(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "city", count=2)
    sources = [SourceConfig("city", 1, soft=True)]
    stock = load_stock(sources, tmp_path, teacher=lambda image: np.ones((20, 64, 128), np.float32))
    mixed = AugmentConfig(mix=1.0, paste=1.0, mosaic=0.5)

    def phase(step: int) -> Phase:
        return Phase(1.0, (128, 64), 4)

    with BatchLoader(stock, mixed, seed=0, nominal=(160, 96), phase=phase) as loader:
        batch = next(iter(loader))
    assert batch.images.shape == (4, 64, 128, 3)
    assert batch.labels.shape == (4, 64, 128)
    assert batch.soft is not None
    assert batch.soft.shape == (4, 19, 16, 32)


def test_batches_mix_taught_and_other_views(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "city", count=1)
    write_cityscapes(tmp_path / "town", count=1)
    sources = [SourceConfig("city", 1, soft=True), SourceConfig("town", 1)]
    stock = load_stock(sources, tmp_path, teacher=lambda image: np.ones((20, 64, 128), np.float32))

    def phase(step: int) -> Phase:
        return Phase(1.0, 64, 8)

    with BatchLoader(stock, AugmentConfig(), seed=0, nominal=64, phase=phase) as loader:
        batch = next(iter(loader))
    assert batch.soft is not None
    assert batch.soft.shape == (8, 19, 16, 16)
    taught = batch.soft.reshape(8, -1).any(1)
    assert 0 < taught.sum() < 8
