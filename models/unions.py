"""Labels that name several Cityscapes classes at once.

CamVid's "bicyclist" is rider and bicycle in one, its "car" holds trucks and buses, its "sign"
traffic lights. A pixel of such a class is one of its members, and which one is left to the
network: the member that it finds likeliest is what it learns. That is the likeliest of the
labels that a partial label allows, as in Lv et al., "Progressive Identification of True Labels
for Partial-Label Learning", 2020, with weights of 0 and 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.camvid import (
    CAMVID,
    FROM_CITYSCAPES,
    TO_CITYSCAPES,
    VOID,
    to_cityscapes_table,
)
from rtseg.engines.labels import CITYSCAPES, VOID_ID

#: A label of this value and above, short of void, is a union: of CamVid's class 0, 1, ...
FIRST_UNION = 200


def _members() -> NDArray[np.bool_]:
    table = np.zeros((256, len(CITYSCAPES)), bool)
    np.fill_diagonal(table, True)
    for name, parent in FROM_CITYSCAPES.items():
        table[FIRST_UNION + CAMVID.index(parent), CITYSCAPES.index(name)] = True
    return table


#: (256, 19): the classes that a label may be; none for void.
MEMBERS = _members()


def camvid_unions_table() -> NDArray[np.uint8]:
    """Return the table (256,) uint8 from CamVid id to a trainId or a union, else 255."""
    table = np.full(256, VOID_ID, np.uint8)
    for index in range(VOID):
        members = np.flatnonzero(MEMBERS[FIRST_UNION + index])
        table[index] = members[0] if len(members) == 1 else FIRST_UNION + index
    return table


def _counted() -> NDArray[np.uint8]:
    table = np.full(256, VOID_ID, np.uint8)
    table[: len(CITYSCAPES)] = np.arange(len(CITYSCAPES))
    single = to_cityscapes_table()
    for name in TO_CITYSCAPES:
        index = CAMVID.index(name)
        table[FIRST_UNION + index] = single[index]
    return table


#: (256,): the class that a label counts as where one is needed, void where none stands out.
COUNTED = _counted()


def agreement(label: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what a label (H, W) allows, float32 (C, H, W): 0 or 1; void allows all."""
    allowed = MEMBERS.copy()
    allowed[VOID_ID] = True
    return np.ascontiguousarray(allowed.T[:, label], np.float32)
