from __future__ import annotations

import pytest

from rtseg.models.watch import StepReport
from rtseg.tools.train_bar import TrainBar


def report(step: int, part: float, loss: float) -> StepReport:
    return StepReport(step, part, 3725.0 * (1 - part), loss, 1.0, (384, 384), 9.5)


def test_the_bar_tells_step_time_left_and_loss(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    bar = TrainBar()
    bar.step(report(1, 0.0, 2.0))
    bar.say("step 1: mIoU 12.00 [not markup]")
    bar.step(report(2, 0.5, 1.0))
    bar.close()
    bar.close()
    shown = capsys.readouterr().err
    assert "mIoU 12.00 [not markup]" in shown
    assert "step 2" in shown
    assert "0:31:02 left" in shown
    # A running mean, so that one batch does not shake the line.
    assert "loss 1.9500" in shown
