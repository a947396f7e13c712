"""The search for a learning rate, on a real optimiser of one variable."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.models.errors import ModelError
from rtseg.models.lr_find import RatePoint, find_rate, plot, suggest
from rtseg.models.stock import Batch

BATCH = Batch(np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32), np.uint8), 2)


class Parabola:
    """Gradient descent on x^2 with peak rate 0.1: diverges above factor 10."""

    name, suffix, step_count = "parabola", ".x", 0

    def __init__(self) -> None:
        self.x = 4.0

    def train_step(self, batch: Batch, rate: float) -> float:
        loss = self.x**2
        self.x -= 0.1 * rate * 2 * self.x
        if not np.isfinite(loss):
            raise ModelError("the loss became inf", reason="NAN_LOSS")
        return loss


def search(**options: Any) -> list[RatePoint]:
    return find_rate(Parabola(), itertools.repeat(BATCH), **options)  # type: ignore[arg-type]


def test_it_ends_where_the_loss_diverges() -> None:
    points = search(low=0.001, high=1e4, steps=100)
    assert len(points) < 100
    assert points[-1].smooth > points[-2].smooth
    rates = [point.rate for point in points]
    assert np.allclose(np.diff(np.log(rates)), np.log(1e7) / 99)


def test_the_suggestion_is_a_rate_that_trains() -> None:
    factor = suggest(search(low=0.001, high=1e3, steps=80))
    assert 0.05 < factor < 10
    trainer = Parabola()
    losses = [trainer.train_step(BATCH, factor) for _ in range(200)]
    assert losses[-1] < 0.01 * losses[0]


def test_a_loss_that_is_not_finite_ends_the_search() -> None:
    class Cliff(Parabola):
        def train_step(self, batch: Batch, rate: float) -> float:
            if rate > 1:
                raise ModelError("the loss became nan", reason="NAN_LOSS")
            return super().train_step(batch, rate)

    points = find_rate(Cliff(), itertools.repeat(BATCH), low=0.1, high=10, steps=21)  # type: ignore[arg-type]
    assert points[-1].rate <= 1
    assert len(points) == 11


@pytest.mark.parametrize(
    "options", [{"low": 0.0}, {"low": 2, "high": 1}, {"high": float("inf")}, {"steps": 2}]
)
def test_an_empty_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="allowed: 0 < low < high"):
        search(**options)


def test_too_few_points_suggest_nothing() -> None:
    with pytest.raises(ModelError, match="diverged after 1 steps"):
        suggest([RatePoint(1, 1, 1)])


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'train'")
    points = search(low=0.001, high=1e3, steps=60)
    plot(points, suggest(points), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert "factor on the peak learning rates" in text or "<path" in text
    plot(points, suggest(points), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    for bad in ("no/such/folder/plot.png", "plot.xyz"):
        with pytest.raises(ModelError, match=r"no such folder|allowed: \.png"):
            plot(points, 1.0, tmp_path / bad)
