"""A gallery of predictions beside their labels: PNG files and one page.

``NAME.png`` shows frame, label, prediction and errors (2 by 2); ``index.html`` holds
all of them in itself, worst first, with the scores, and needs nothing else.
"""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import Sample, read_image
from rtseg.calibration.metrics import Scores
from rtseg.calibration.verify import count_pixels, score_pixels
from rtseg.engines.labels import VOID_ID, ClassTable
from rtseg.models.errors import ModelError
from rtseg.models.files import writing_error

U8 = NDArray[np.uint8]

#: Columns of one picture.
MAX_WIDTH_PIXELS = 512
WRONG, RIGHT, VOID = (230, 40, 40), (70, 70, 70), (0, 0, 0)
JPEG_QUALITY = 85

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;
color:#222;background:#fff}
table{border-collapse:collapse}td,th{padding:.1rem .8rem .1rem 0;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.c{display:inline-block;width:1em;height:1em;vertical-align:-.15em;border:1px solid #0003}
figure{margin:2rem 0}figcaption{margin-bottom:.3rem}
.g{display:grid;grid-template-columns:1fr 1fr;gap:4px}.g img{width:100%;display:block}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}
"""


@dataclass(frozen=True)
class _Entry:
    name: str
    accuracy: float
    mean_iou: float
    pictures: tuple[str, ...]


def colour_table(table: ClassTable) -> U8:
    """Return RGB (256, 3) by class id; void is black."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(table)] = table.palette
    return colours


class Gallery:
    """Collects the images of an evaluation; give it to ``judge`` as an observer.

    Args:
        folder: where to write; made if missing, and must be empty.
        table: the classes judged.

    Raises:
        ModelError: the folder is not empty, or cannot be made.
    """

    def __init__(self, folder: Path, table: ClassTable) -> None:
        self._folder, self._table = folder, table
        self._colours = colour_table(table)
        self._entries: list[_Entry] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = next(folder.iterdir(), None)
        except OSError as error:
            raise writing_error(folder, error) from error
        if taken is not None:
            raise ModelError(
                f"the folder of a gallery must be empty: {folder} holds {taken.name}",
                reason="BAD_CONFIG",
            )

    def __call__(self, sample: Sample, label: U8, guess: U8) -> None:
        """Draw one image.

        Args:
            sample: where its frame is.
            label: class ids uint8 (H, W), 255 = void.
            guess: class ids uint8 (H, W).

        Raises:
            ModelError: the picture cannot be written.
        """
        height, width = label.shape
        scale = min(1.0, MAX_WIDTH_PIXELS / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))

        def small(ids: U8) -> U8:
            shrunk = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT)
            return np.asarray(shrunk, np.uint8)

        frame = cv2.resize(read_image(sample.image), size, interpolation=cv2.INTER_AREA)
        truth, seen = small(label), small(guess)
        errors = np.where((truth == seen)[..., None], RIGHT, WRONG)
        errors[truth == VOID_ID] = VOID
        pictures = [
            np.asarray(p, np.uint8)
            for p in (frame, self._colours[truth], self._colours[seen], errors)
        ]
        mosaic = np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:])])
        self._write(f"{sample.name}.png", _encode(mosaic, ".png"))
        found = score_pixels(count_pixels(label, guess, len(self._table)))
        kinds = (".jpg", ".png", ".png", ".png")
        embedded = tuple(_embed(p, k) for p, k in zip(pictures, kinds, strict=True))
        self._entries.append(_Entry(sample.name, found.pixel_accuracy, found.mean_iou, embedded))

    def finish(self, title: str, result: Scores) -> Path:
        """Write ``index.html`` and return its path.

        Args:
            title: what was judged.
            result: the scores over all images.

        Raises:
            ModelError: the page cannot be written.
        """
        rows = "\n".join(
            f'<tr><td><span class="c" style="background:rgb{colour}"></span> '
            f'{html.escape(name)}</td><td class="n">{_percent(iou)}</td></tr>'
            for name, colour, iou in zip(
                self._table.names, self._table.palette, result.class_iou, strict=True
            )
        )
        # An image without any label has nothing to be wrong in: last.
        worst_first = sorted(self._entries, key=lambda e: np.nan_to_num(e.accuracy, nan=2.0))
        figures = "\n".join(_figure(entry) for entry in worst_first)
        page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style>
<h1>{html.escape(title)}</h1>
<p>{len(self._entries)} images · mIoU {_percent(result.mean_iou)} ·
pixel accuracy {_percent(result.pixel_accuracy)}. Worst image first. Each: frame, label,
prediction, errors (red wrong, grey right, black without label).</p>
<table><tr><th>class<th>IoU</tr>
{rows}
</table>
{figures}
</html>
"""
        return self._write("index.html", page.encode())

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        try:
            path.write_bytes(data)
        except OSError as error:
            raise writing_error(path, error) from error
        return path


def _figure(entry: _Entry) -> str:
    name = html.escape(entry.name)
    alts = ("frame", "label", "prediction", "errors")
    images = "".join(
        f'<img loading="lazy" alt="{alt} of {name}" src="{source}">'
        for alt, source in zip(alts, entry.pictures, strict=True)
    )
    return (
        f"<figure><figcaption><b>{name}</b> · pixel accuracy {_percent(entry.accuracy)} · "
        f'mIoU {_percent(entry.mean_iou)}</figcaption><div class="g">{images}</div></figure>'
    )


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f}"


def _encode(image: U8, kind: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == ".jpg" else []
    return bytes(cv2.imencode(kind, np.ascontiguousarray(image[:, :, ::-1]), options)[1])


def _embed(image: U8, kind: str) -> str:
    media = {".jpg": "image/jpeg", ".png": "image/png"}[kind]
    return f"data:{media};base64,{base64.b64encode(_encode(image, kind)).decode()}"
