"""Labels that name several classes at once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.calibration.camvid import CAMVID, VOID
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.models.config import LossConfig, SourceConfig
from rtseg.models.paste import paste_things
from rtseg.models.stock import find_focus, load_stock
from rtseg.models.unions import (
    COUNTED,
    FIRST_UNION,
    MEMBERS,
    agreement,
    camvid_unions_table,
)

RIDER, PERSON, BICYCLE = (CITYSCAPES.index(n) for n in ("rider", "person", "bicycle"))
BICYCLIST = FIRST_UNION + CAMVID.index("bicyclist")
CAR = FIRST_UNION + CAMVID.index("car")


def names(label: int) -> set[str]:
    return {CITYSCAPES.names[i] for i in np.flatnonzero(MEMBERS[label])}


def test_each_camvid_class_is_what_it_holds() -> None:
    table = camvid_unions_table()
    assert names(table[CAMVID.index("bicyclist")]) == {"rider", "motorcycle", "bicycle"}
    assert names(table[CAMVID.index("car")]) == {"car", "truck", "bus", "train"}
    assert names(table[CAMVID.index("sign")]) == {"traffic light", "traffic sign"}
    assert table[CAMVID.index("road")] == CITYSCAPES.index("road")
    assert table[VOID] == VOID_ID
    assert not MEMBERS[VOID_ID].any()
    for i in range(len(CITYSCAPES)):
        assert names(i) == {CITYSCAPES.names[i]}
        assert COUNTED[i] == i
    assert COUNTED[CAR] == CITYSCAPES.index("car")
    assert COUNTED[BICYCLIST] == VOID_ID  # rider or bicycle: neither stands out


def test_agreement_allows_members_and_all_where_void() -> None:
    label = np.array([[BICYCLIST, VOID_ID], [RIDER, CAR]], np.uint8)
    allowed = agreement(label)
    assert allowed.shape == (19, 2, 2)
    assert allowed[:, 0, 0].sum() == 3
    assert allowed[:, 0, 1].all()
    assert allowed[:, 1, 0].tolist() == np.eye(19)[RIDER].tolist()


def test_torch_learns_the_likeliest_member() -> None:
    torch = pytest.importorskip("torch")
    from rtseg.models.torch_losses import choose_members, labelled_loss

    logits = torch.zeros(1, 19, 1, 3)
    logits[0, PERSON] = 5  # likelier than all, but no member
    logits[0, RIDER, 0, 0] = 1
    logits[0, BICYCLE, 0, 1] = 1
    target = torch.tensor([[[BICYCLIST, BICYCLIST, VOID_ID]]])
    chosen = choose_members(logits, target)
    assert chosen.tolist() == [[[RIDER, BICYCLE, VOID_ID]]]
    assert target[0, 0, 0] == BICYCLIST  # the caller's own is left alone
    weights = torch.linspace(0.5, 2, 19)
    config = LossConfig(dice=1.0)
    assert labelled_loss(logits, target, weights, config) == labelled_loss(
        logits, chosen, weights, config
    )


def test_keras_chooses_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    from rtseg.models.keras_losses import choose_members as in_keras
    from rtseg.models.torch_losses import choose_members

    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (400, 19)).astype(np.float32)
    ids = [*range(19), *range(FIRST_UNION, FIRST_UNION + len(CAMVID))]
    target = rng.choice(ids, 400)
    expected = choose_members(
        torch.from_numpy(logits.T[None, :, :, None].copy()),
        torch.from_numpy(target[None, :, None]),
    )
    got = np.asarray(in_keras(logits, target))
    assert got.tolist() == expected[0, :, 0].tolist()
    assert MEMBERS[target, got].all()


def camvid(folder: Path) -> np.ndarray:
    label = np.full((36, 48), CAMVID.index("road"), np.uint8)
    label[:, 24:] = CAMVID.index("bicyclist")
    label[:, 36:] = CAMVID.index("car")
    for name, image in (("train", np.full((36, 48, 3), 90, np.uint8)), ("trainannot", label)):
        (folder / name).mkdir(parents=True)
        assert cv2.imwrite(str(folder / name / "a.png"), image)
    return label


def test_stock_of_unions(tmp_path: Path) -> None:
    label = camvid(tmp_path / "c")

    def teacher(image: np.ndarray) -> np.ndarray:
        planes = np.zeros((19, 36, 48), np.float32)
        planes[PERSON], planes[RIDER] = 0.8, 0.2
        return planes

    source = SourceConfig("c", 1, kind="camvid", soft=True, unions=True)
    stock = load_stock([source], tmp_path, teacher=teacher)
    item = stock.items[0][0]
    assert np.array_equal(item.label, camvid_unions_table()[label])
    assert stock.frequencies[CITYSCAPES.index("car")] == pytest.approx(1 / 3)
    assert stock.frequencies[RIDER] == 0
    # The teacher's rider is believed where one may be; its person nowhere.
    assert item.soft is not None
    assert not item.soft[PERSON].any()
    assert item.soft[RIDER, :, 134:186].min() == 51
    assert not item.soft[RIDER, :, :122].any()
    focus = find_focus(item, CITYSCAPES.index("car"), np.random.default_rng(0))
    assert focus is not None
    assert focus[0] > 0.74
    plain = load_stock([SourceConfig("c", 1, kind="camvid", soft=True)], tmp_path, teacher=teacher)
    assert plain.items[0][0].soft is not None
    assert plain.items[0][0].soft[PERSON].min() == 204
    assert (plain.items[0][0].label[:, 24:36] == VOID_ID).all()


def test_unions_are_pasted_with_their_members() -> None:
    donor = np.full((16, 16), BICYCLIST, np.uint8)
    host = np.zeros((16, 16), np.uint8)
    views = [
        (np.full((16, 16, 3), i, np.uint8), label, None) for i, label in enumerate((host, donor))
    ]
    pasted = [
        int(paste_things(views, np.random.default_rng(seed), 1.0)[0][1].max()) for seed in range(20)
    ]
    assert set(pasted) == {0, BICYCLIST}
