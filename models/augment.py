"""Training views: geometry, colour and degradation of one labelled image.

The network's view is the whole frame squashed to the input size, so a view of scale
1 maps the source frame, whatever its shape, to the ``nominal`` size; scale and aspect
vary around that, and a crop is cut out. Sizes are one side of a square, or (width, height).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.engines.labels import VOID_ID
from rtseg.models.config import AugmentConfig, sides

U8 = NDArray[np.uint8]

#: A teacher's probabilities are learnt at one cell for so many pixels of a view.
SOFT_STRIDE = 4


def view_matrix(
    source: tuple[int, int], scale_x: float, scale_y: float, x0: float, y0: float, flip: bool
) -> NDArray[np.float64]:
    """Affine matrix (2, 3) from a source of (height, width) pixels to a view.

    ``scale_x`` and ``scale_y`` are view pixels per source *frame*; (x0, y0) is the
    view's corner in that enlarged frame. Pixel centres lie at half-integers.
    """
    height, width = source
    sx, sy = scale_x / width, scale_y / height
    tx, ty = 0.5 * sx - 0.5 - x0, 0.5 * sy - 0.5 - y0
    if flip:
        # Mirror in the enlarged frame: x -> scale_x - x.
        sx, tx = -sx, scale_x - 0.5 * (scale_x / width) - 0.5 - x0
    return np.array([[sx, 0.0, tx], [0.0, sy, ty]])


def geometry(
    rng: np.random.Generator,
    config: AugmentConfig,
    nominal: int | tuple[int, int],
    crop: int | tuple[int, int],
    focus: tuple[float, float] | None = None,
) -> tuple[float, float, float, float, bool]:
    """Draw (scale_x, scale_y, x0, y0, flip) for one view.

    ``focus`` is a place (x, y) in parts of the frame that the view shall show.
    """
    scale = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    stretch = math.exp(rng.uniform(-1.0, 1.0) * math.log(config.aspect) / 2.0)
    (high, wide), (rows, columns) = sides(nominal), sides(crop)
    scale_x, scale_y = wide * scale * stretch, high * scale / stretch
    spare_x, spare_y = scale_x - columns, scale_y - rows
    x0 = rng.uniform(min(0.0, spare_x), max(0.0, spare_x))
    y0 = rng.uniform(min(0.0, spare_y), max(0.0, spare_y))
    flip = bool(rng.random() < 0.5)
    if focus is not None:
        # Anywhere but the outer tenth of the view, as far as the frame allows.
        x, y = focus[0] if not flip else 1.0 - focus[0], focus[1]
        part_x, part_y = rng.uniform(0.1, 0.9, 2)
        x0 = float(np.clip(x * scale_x - part_x * columns, min(0.0, spare_x), max(0.0, spare_x)))
        y0 = float(np.clip(y * scale_y - part_y * rows, min(0.0, spare_y), max(0.0, spare_y)))
    return scale_x, scale_y, x0, y0, flip


def colour_matrix(rng: np.random.Generator, config: AugmentConfig) -> NDArray[np.float32]:
    """Draw one affine colour change (3, 4) for RGB 0..255."""
    luma = np.array([0.299, 0.587, 0.114])
    saturation = 1.0 + rng.uniform(-config.saturation, config.saturation)
    matrix = saturation * np.eye(3) + (1.0 - saturation) * np.outer(np.ones(3), luma)
    angle = math.radians(rng.uniform(-config.hue, config.hue))
    # Rotation about the grey axis (Rodrigues).
    cos, sin, third = math.cos(angle), math.sin(angle), 1.0 / 3.0
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * math.sqrt(third)
    rotation = cos * np.eye(3) + sin * cross + (1 - cos) * third * np.ones((3, 3))
    contrast = 1.0 + rng.uniform(-config.contrast, config.contrast)
    brightness = 255.0 * rng.uniform(-config.brightness, config.brightness) * 0.5
    matrix = contrast * (rotation @ matrix)
    offset = np.full((3, 1), 110.0 * (1.0 - contrast) + brightness)
    return np.hstack([matrix, offset]).astype(np.float32)


def degrade(image: U8, rng: np.random.Generator, config: AugmentConfig) -> U8:
    """Blur, add noise to or compress an image, each with its probability.

    Args:
        image: uint8 (H, W, 3); not changed.
        rng: what is drawn from.
        config: the probabilities.

    Returns:
        uint8 (H, W, 3), ``image`` itself where nothing was drawn.
    """
    if rng.random() < config.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5)), np.uint8)
    if rng.random() < config.noise:
        noise = rng.normal(0.0, rng.uniform(2.0, 8.0), image.shape).astype(np.float32)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < config.jpeg:
        quality = int(rng.integers(25, 81))
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done:
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return image


def draw_view(
    image: U8,
    label: U8,
    rng: np.random.Generator,
    config: AugmentConfig,
    *,
    nominal: int | tuple[int, int],
    crop: int | tuple[int, int],
    sharp: bool,
    soft: U8 | None = None,
    focus: tuple[float, float] | None = None,
) -> tuple[U8, U8, U8 | None]:
    """Draw one training view.

    Args:
        image: RGB uint8 (h, w, 3).
        label: trainIds uint8 (H, W) of the same frame, in any size.
        rng: source of all randomness.
        config: limits of the variation.
        nominal: size in pixels of the whole frame at scale 1.
        crop: size in pixels of the view.
        sharp: whether the image may be degraded.
        soft: a teacher's probabilities of the same frame, uint8 (C, h, w), 255 is 1.
        focus: place (x, y) in parts of the frame that the view shall show.

    Returns:
        RGB uint8 (H, W, 3) of the crop's size, trainIds uint8 (H, W) with 255 outside the frame,
        and the probabilities uint8 (C, H / 4, W / 4) with 0 outside the frame.
    """
    place = geometry(rng, config, nominal, crop, focus)
    high, wide = sides(crop)
    view = cv2.warpAffine(
        image,
        view_matrix(image.shape[:2], *place),
        (wide, high),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(114, 114, 114),
    )
    target = cv2.warpAffine(
        label,
        view_matrix(label.shape[:2], *place),
        (wide, high),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=VOID_ID,
    )
    if sharp:
        view = degrade(np.asarray(view, np.uint8), rng, config)
    view = cv2.transform(view, colour_matrix(rng, config))
    moved = (
        None if soft is None else soft_view(soft, place, (high // SOFT_STRIDE, wide // SOFT_STRIDE))
    )
    return np.asarray(view, np.uint8), np.asarray(target, np.uint8), moved


def mix_views(
    views: Sequence[tuple[U8, U8, U8 | None]], rng: np.random.Generator, share: float
) -> list[tuple[U8, U8, U8 | None]]:
    """Put a rectangle of another view into each view with probability ``share``.

    What a place shows then no longer follows from what lies around it alone, and sharp and
    coarse images meet in one view. CutMix, Yun et al. 2019; for segmentation French et al.
    2020. The rectangle covers a tenth to half of the view.

    Args:
        views: image (H, W, 3), label (H, W), probabilities (C, H / 4, W / 4) or None.
        rng: source of all randomness.
        share: probability for each view.

    Returns:
        The views in the same order; those unchanged are the same arrays.
    """
    mixed = list(views)
    for row, (image, label, soft) in enumerate(views):
        if len(views) < 2 or rng.random() >= share:
            continue
        other = int(rng.integers(len(views) - 1))
        donor, its_label, its_soft = views[other + (other >= row)]
        rows, columns = label.shape[0] // SOFT_STRIDE, label.shape[1] // SOFT_STRIDE
        area, shape = rng.uniform(0.1, 0.5), math.exp(rng.uniform(-0.7, 0.7))
        high = min(rows, max(1, round(rows * math.sqrt(area * shape))))
        wide = min(columns, max(1, round(columns * math.sqrt(area / shape))))
        top, left = int(rng.integers(rows - high + 1)), int(rng.integers(columns - wide + 1))
        cell = (slice(top, top + high), slice(left, left + wide))
        pixel = (
            slice(top * SOFT_STRIDE, (top + high) * SOFT_STRIDE),
            slice(left * SOFT_STRIDE, (left + wide) * SOFT_STRIDE),
        )
        image, label = image.copy(), label.copy()
        image[pixel], label[pixel] = donor[pixel], its_label[pixel]
        given = soft if soft is not None else its_soft
        if given is not None:
            # A view without a teacher has probabilities of 0: nothing is learnt from them.
            soft = np.zeros_like(given) if soft is None else soft.copy()
            soft[:, cell[0], cell[1]] = 0 if its_soft is None else its_soft[:, cell[0], cell[1]]
        mixed[row] = (image, label, soft)
    return mixed


def join_views(parts: Sequence[tuple[U8, U8, U8 | None]]) -> tuple[U8, U8, U8 | None]:
    """Put four views of one size together into one of twice its sides, row by row.

    Args:
        parts: image (H, W, 3), label (H, W), probabilities (C, H / 4, W / 4) or None, of the
            upper left, upper right, lower left and lower right quarter.

    Returns:
        Image, label and probabilities; those are 0 where a part has none, and None where
        no part has any.
    """
    images, labels, softs = zip(*parts, strict=True)
    given = next((soft for soft in softs if soft is not None), None)
    joined = None
    if given is not None:
        planes = [np.zeros_like(given) if soft is None else soft for soft in softs]
        joined = np.block([planes[:2], planes[2:]])
    image = np.vstack([np.hstack(images[:2]), np.hstack(images[2:])])
    return image, np.block([list(labels[:2]), list(labels[2:])]), joined


def soft_view(
    soft: U8, place: tuple[float, float, float, float, bool], size: tuple[int, int]
) -> U8:
    """Cut the view ``place`` (of `geometry`) of ``size`` cells (rows, columns) out of a teacher's
    probabilities (C, h, w), uint8.

    Returns:
        uint8 (C, *size), each cell `SOFT_STRIDE` pixels of the view.
    """
    scale_x, scale_y, x0, y0, flip = place
    small = [value / SOFT_STRIDE for value in (scale_x, scale_y, x0, y0)]
    matrix = view_matrix(soft.shape[1:3], small[0], small[1], small[2], small[3], flip)
    planes = [cv2.warpAffine(plane, matrix, size[::-1], flags=cv2.INTER_LINEAR) for plane in soft]
    return np.stack(planes).astype(np.uint8)


def boundary_pixels(labels: U8, reach: int) -> NDArray[np.bool_]:
    """Mark pixels of (N, H, W) labels with another label within ``reach`` pixels."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return np.stack([cv2.morphologyEx(label, cv2.MORPH_GRADIENT, kernel) > 0 for label in labels])
