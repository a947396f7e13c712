"""Training views that people and vehicles of another view are put into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.labels import CITYSCAPES
from rtseg.models.augment import SOFT_STRIDE, U8
from rtseg.models.unions import MEMBERS

#: What goes together: a rider is not torn off what they sit on.
GROUPS = (
    ("person",),
    ("rider", "motorcycle", "bicycle"),
    ("car",),
    ("truck",),
    ("bus",),
    ("train",),
)


def paste_things(
    views: Sequence[tuple[U8, U8, U8 | None]], rng: np.random.Generator, share: float
) -> list[tuple[U8, U8, U8 | None]]:
    """Put things of another view into each view with probability ``share``.

    A rare class is seen few times and always in the same streets; here it stands in others,
    cut out along its outline. Of the groups of things that the other view shows, each is taken
    with probability one half, all of its pixels, at the place where they are. After ClassMix,
    Olsson et al. 2021, and Copy-Paste, Ghiasi et al. 2021.

    Args:
        views: image (H, W, 3), label of trainIds (H, W), a teacher's probabilities
            (C, H / 4, W / 4) or None.
        rng: source of all randomness.
        share: probability for each view.

    Returns:
        The views in the same order; those unchanged are the same arrays. A teacher's cell on
        an outline is 0: nothing is learnt from it.
    """
    pasted = list(views)
    for row, (image, label, soft) in enumerate(views):
        if len(views) < 2 or rng.random() >= share:
            continue
        other = int(rng.integers(len(views) - 1))
        donor, its_label, its_soft = views[other + (other >= row)]
        chosen = [
            CITYSCAPES.index(name)
            for group, taken in zip(GROUPS, rng.random(len(GROUPS)) < 0.5, strict=True)
            for name in group
            if taken
        ]
        mask = np.any(MEMBERS[:, chosen], axis=1)[its_label]
        if not mask.any():
            continue
        image, label = image.copy(), label.copy()
        image[mask], label[mask] = donor[mask], its_label[mask]
        pasted[row] = (image, label, _paste_soft(mask, soft, its_soft))
    return pasted


def _paste_soft(mask: NDArray[np.bool_], soft: U8 | None, its_soft: U8 | None) -> U8 | None:
    """Return a teacher's probabilities of a view that ``mask`` was pasted into."""
    given = soft if soft is not None else its_soft
    if given is None:
        return None
    rows, columns = mask.shape[0] // SOFT_STRIDE, mask.shape[1] // SOFT_STRIDE
    counts = mask.reshape(rows, SOFT_STRIDE, columns, SOFT_STRIDE).sum((1, 3))
    joined = np.zeros_like(given)
    for source, where in ((soft, counts == 0), (its_soft, counts == SOFT_STRIDE**2)):
        if source is not None:
            joined[:, where] = source[:, where]
    return joined
