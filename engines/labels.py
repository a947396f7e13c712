"""Class tables: names, colours and ids of what a network can see.

The Cityscapes table is the one of the data set's own ``labels.py`` (Cordts et al.,
"The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016): ``trainId``
is the position of a class in the table, ``label id`` the number in ``*_labelIds.png``.
"""

from __future__ import annotations

from dataclasses import dataclass

VOID_ID = 255
"""The id of a pixel that belongs to no class, in label images and metrics alike."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a network, in the order of its output channels.

    Attributes:
        names: one name for each class.
        palette: one ``(red, green, blue)`` of 0..255 for each class.
        label_ids: the id of each class in the data set's own label files, or empty.
        categories: the group of each class (Cityscapes: flat, construction, …), or empty.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    label_ids: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= VOID_ID:
            raise ValueError(
                f"a class table has 1 to {VOID_ID} classes. Received: {len(self.names)}"
            )
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"class names must differ. Received: {self.names}")
        if len(self.palette) != len(self.names):
            raise ValueError(
                f"a palette has one colour for each of the {len(self.names)} classes. "
                f"Received: {len(self.palette)}"
            )
        for colour in self.palette:
            if len(colour) != 3 or not all(0 <= channel <= 255 for channel in colour):
                raise ValueError(f"a colour is three numbers of 0..255. Received: {colour}")
        for extra in (self.label_ids, self.categories):
            if extra and len(extra) != len(self.names):
                raise ValueError(
                    f"expected none or {len(self.names)} entries. Received: {len(extra)}"
                )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the position of a class; spaces, case, ``_`` and ``-`` do not matter.

        Raises:
            KeyError: no class has that name; the message lists those that exist.
        """
        wanted = _plain(name)
        for position, known in enumerate(self.names):
            if _plain(known) == wanted:
                return position
        raise KeyError(f"unknown class {name!r}. Allowed: {', '.join(self.names)}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


_CITYSCAPES_ROWS: tuple[tuple[str, int, str, tuple[int, int, int]], ...] = (
    ("road", 7, "flat", (128, 64, 128)),
    ("sidewalk", 8, "flat", (244, 35, 232)),
    ("building", 11, "construction", (70, 70, 70)),
    ("wall", 12, "construction", (102, 102, 156)),
    ("fence", 13, "construction", (190, 153, 153)),
    ("pole", 17, "object", (153, 153, 153)),
    ("traffic light", 19, "object", (250, 170, 30)),
    ("traffic sign", 20, "object", (220, 220, 0)),
    ("vegetation", 21, "nature", (107, 142, 35)),
    ("terrain", 22, "nature", (152, 251, 152)),
    ("sky", 23, "sky", (70, 130, 180)),
    ("person", 24, "human", (220, 20, 60)),
    ("rider", 25, "human", (255, 0, 0)),
    ("car", 26, "vehicle", (0, 0, 142)),
    ("truck", 27, "vehicle", (0, 0, 70)),
    ("bus", 28, "vehicle", (0, 60, 100)),
    ("train", 31, "vehicle", (0, 80, 100)),
    ("motorcycle", 32, "vehicle", (0, 0, 230)),
    ("bicycle", 33, "vehicle", (119, 11, 32)),
)

CITYSCAPES = ClassTable(
    names=tuple(row[0] for row in _CITYSCAPES_ROWS),
    palette=tuple(row[3] for row in _CITYSCAPES_ROWS),
    label_ids=tuple(row[1] for row in _CITYSCAPES_ROWS),
    categories=tuple(row[2] for row in _CITYSCAPES_ROWS),
)
"""The 19 evaluated classes of Cityscapes; the position is the ``trainId``."""


def table_of(names: tuple[str, ...]) -> ClassTable:
    """Return a class table of these names: Cityscapes' own, or one of distinct colours.

    Raises:
        ValueError: no class table has these names.
    """
    if tuple(map(_plain, names)) == CITYSCAPES.names:
        return CITYSCAPES
    return ClassTable(names, distinct_palette(len(names)))


def distinct_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return ``count`` colours that are easy to tell apart, always the same ones.

    This is the bit-reversal colour map of the PASCAL VOC development kit, without its
    black first entry.
    """
    colours = []
    for index in range(1, count + 1):
        red = green = blue = 0
        code = index
        for shift in range(7, -1, -1):
            red |= (code & 1) << shift
            green |= ((code >> 1) & 1) << shift
            blue |= ((code >> 2) & 1) << shift
            code >>= 3
        colours.append((red, green, blue))
    return tuple(colours)
