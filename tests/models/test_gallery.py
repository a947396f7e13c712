from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.calibration.cityscapes import find_samples, read_label
from rtseg.engines.labels import CITYSCAPES
from rtseg.models.errors import ModelError
from rtseg.models.evaluate import judge
from rtseg.models.gallery import RIGHT, VOID, WRONG, Gallery
from tests.models.scenes import write_cityscapes


class Page(HTMLParser):
    """Collects the sources of images and whatever leads outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if tag == "img" and name == "src":
                self.images.append(value or "")
            elif name in ("src", "href"):
                self.outside.append(value or "")


def test_predictions_stand_beside_their_labels(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "city", "val", count=2, label_size=(1024, 512))
    samples = find_samples(tmp_path / "city", "val")
    labels = [read_label(sample) for sample in samples]
    guesses = [np.where(label == 255, 0, label).astype(np.uint8) for label in labels]
    guesses[1][:256, :512] = (guesses[1][:256, :512] + 1) % 19  # a wrong quarter
    answers = iter(guesses)
    folder = tmp_path / "out" / "gallery"
    gallery = Gallery(folder, CITYSCAPES)
    _, result = judge(lambda image, size: next(answers), samples, observe=[gallery])
    page = gallery.finish("net <1> on city", result)

    assert sorted(p.name for p in folder.iterdir()) == [
        "index.html",
        *[f"{sample.name}.png" for sample in samples],
    ]
    picture = cv2.imread(str(folder / f"{samples[1].name}.png"))[:, :, ::-1]
    assert picture.shape == (512, 1024, 3)
    palette = np.array(CITYSCAPES.palette, np.uint8)
    label, guess, errors = picture[:256, 512:], picture[256:, :512], picture[256:, 512:]
    assert (label[20, 20] == palette[labels[1][41, 41]]).all()
    assert (guess[20, 20] == palette[guesses[1][41, 41]]).all()
    assert tuple(errors[20, 20]) == WRONG
    assert tuple(errors[200, 20]) == RIGHT
    assert tuple(errors[255, 20]) == VOID
    assert (errors == WRONG).all(-1).mean() == pytest.approx(0.25)

    text = page.read_text(encoding="utf-8")
    assert "net &lt;1&gt; on city" in text
    assert text.index(samples[1].name) < text.index(samples[0].name)  # worst first
    assert re.search(r"2 images · mIoU \d", text)
    parser = Page()
    parser.feed(text)
    assert parser.outside == []
    assert len(parser.images) == 8
    for source in parser.images:
        head, data = source.split(",", 1)
        assert head in ("data:image/jpeg;base64", "data:image/png;base64")
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (256, 512, 3)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"must be empty: .* holds mine\.txt") as caught:
        Gallery(tmp_path, CITYSCAPES)
    assert caught.value.reason == "BAD_CONFIG"
    with pytest.raises(ModelError, match="cannot write"):
        Gallery(tmp_path / "mine.txt", CITYSCAPES)
