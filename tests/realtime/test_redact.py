"""Redaction in the loop: nobody sees a frame before it is covered."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.engines.errors import EngineError
from rtseg.realtime.cli import main
from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import U8, Frame
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.redact import LOOK_AHEAD, RedactOptions, Redactor
from rtseg.realtime.refine import Chain, Refiner, Seen
from rtseg.realtime.slot import DropPolicy
from rtseg.realtime.throttle import FlowOptions
from rtseg.realtime.view import VIEWS, View, ViewOptions
from rtseg.realtime.yuv import planes_420
from tests.engines.networks import TinyNet
from tests.media import make_video
from tests.realtime.parts import TWO_CLASSES, BrightnessEngine, GraySource, ListSink

DARK, BRIGHT = 0, 1
FILL = 72


def frame(index: int, name: str = "yuv420p", size: tuple[int, int] = (96, 64)) -> Frame:
    video = av.VideoFrame(*size, name)
    random = np.random.default_rng(index)
    for plane in video.planes:
        np.frombuffer(memoryview(plane), np.uint8)[:] = random.integers(
            90, 200, plane.buffer_size, np.uint8
        )
    video.colorspace, video.color_range = 1, 1
    return Frame(index, video, index, Fraction(1, 25))


def seen(index: int, found: bool, name: str = "yuv420p", size: tuple[int, int] = (96, 64)) -> Seen:
    labels = np.zeros((32, 32), np.uint8)
    labels[8:24, 8:24] = BRIGHT * found
    return Seen(frame(index, name, size), labels, labels)


def redactor(may_wait: bool = False, **options: float) -> Redactor:
    made = Redactor(RedactOptions((BRIGHT,), "fill", **options))  # type: ignore[arg-type]
    made.open(may_wait=may_wait)
    return made


def middle(item: Seen) -> U8:
    y = planes_420(item.frame.video.reformat(format="yuv420p"))[0]
    return y[y.shape[0] // 3 : -(y.shape[0] // 3), y.shape[1] // 3 : -(y.shape[1] // 3)]


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "yuv422p", "rgb24", "gray", "yuv420p10le"])
@pytest.mark.parametrize("size", [(96, 64), (95, 63)])
def test_every_format_is_covered_and_the_decoders_frame_is_not_touched(
    name: str, size: tuple[int, int]
) -> None:
    item = seen(0, True, name, size)
    before = [bytes(plane) for plane in item.frame.video.planes]
    (ready,) = redactor().push(item)
    assert [bytes(plane) for plane in item.frame.video.planes] == before
    assert ready.frame.video is not item.frame.video
    assert (ready.frame.video.width, ready.frame.video.height) == size
    assert (middle(ready) == FILL).all()
    assert ready.frame.pts == item.frame.pts
    assert ready.frame.video.colorspace == 1


def test_a_frame_without_detections_goes_on_as_it_is() -> None:
    item = seen(0, False)
    (ready,) = redactor().push(item)
    assert ready.frame is item.frame


def test_what_was_covered_stays_so_for_a_while() -> None:
    held = redactor()
    for index in range(30):
        (ready,) = held.push(seen(index, index == 0))
        assert (middle(ready) == FILL).all() == (index <= 12), index


def test_a_file_is_looked_ahead_and_loses_no_frame() -> None:
    ahead = redactor(may_wait=True, hold_s=0.2)
    ready: list[Seen] = []
    for index in range(40):
        ready += ahead.push(seen(index, 20 <= index < 24))
        assert len(ready) == max(0, index + 1 - LOOK_AHEAD)
    ready += ahead.flush()
    assert [item.frame.index for item in ready] == list(range(40))
    assert not ahead.flush()
    covered = [item.frame.index for item in ready if (middle(item) == FILL).all()]
    assert covered == list(range(20 - LOOK_AHEAD, 24 + 4))


def test_nobody_waits_for_a_live_source() -> None:
    live = redactor(may_wait=False)
    for index in range(5):
        assert len(live.push(seen(index, True))) == 1


def test_frames_too_large_to_be_kept_are_not() -> None:
    ahead = redactor(may_wait=True)
    large = av.VideoFrame(7680, 4320, "yuv420p")
    labels = np.zeros((32, 32), np.uint8)
    waiting = 0
    for index in range(4):
        item = Seen(Frame(index, large, index, Fraction(1, 25)), labels, labels)
        waiting += 1 - len(ahead.push(item))
    assert waiting == 2


def test_the_time_is_counted_as_postprocessing() -> None:
    (ready,) = redactor().push(seen(0, True))
    assert ready.stages_ms["postprocess"] > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": ()}, "needs classes"),
        ({"style": "smear"}, "pixelate, blur, fill"),
        ({"margin": 0.5}, "0 to 0.25"),
        ({"hold_s": float("nan")}, "0 to 10"),
        ({"look_ahead": -1}, "0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        RedactOptions(**{"classes": (1,), **options})  # type: ignore[arg-type]


class Holding(Refiner):
    """Holds a number of frames back."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[Seen] = []

    def push(self, seen: Seen) -> list[Seen]:
        self._held.append(seen)
        return [self._held.pop(0)] if len(self._held) > self._count else []

    def flush(self) -> list[Seen]:
        held, self._held = self._held, []
        return held


def test_a_chain_of_refiners_loses_nothing_and_keeps_the_order() -> None:
    chain = Chain([Holding(3), Holding(0), Holding(2)])
    out = [item for index in range(20) for item in chain.push(seen(index, False))]
    assert len(out) == 15
    out += chain.flush()
    assert [item.frame.index for item in out] == list(range(20))
    assert not chain.flush()


# -- in the loop ----------------------------------------------------------------------


def run(
    source: GraySource, engine: BrightnessEngine, view: View, *sinks: ListSink, hold_s: float = 0
) -> None:
    painter = Renderer(TWO_CLASSES, ViewOptions(view, alpha=0.0))
    refiner = Redactor(RedactOptions((BRIGHT,), "fill", hold_s=hold_s))
    Pipeline(source, engine, painter, sinks, refiner=refiner, flow=FlowOptions(warmup=0)).run()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_every_output_and_view_gets_the_covered_frame_alone(view: View, live: bool) -> None:
    """Frames over a level of 127 are wholly "bright": no pixel of them may come out."""
    seeing, reading = ListSink(wants_picture=True), ListSink()
    run(GraySource(200, live=live, fps=400), BrightnessEngine(), view, seeing, reading)
    for item in seeing.items + reading.items:
        luma = planes_420(item.frame.video.reformat(format="yuv420p"))[0]
        if item.frame.index > 127:
            assert (luma == FILL).all()
        else:
            assert luma.max() < FILL or item.frame.index > 60
    shown = [item for item in seeing.items if item.frame.index > 127]
    assert shown
    for item in shown:
        assert item.picture is not None
        luma = planes_420(item.picture)[0]
        if view != "mask":
            assert (luma == FILL).all()
    if not live:
        assert [item.frame.index for item in seeing.items] == list(range(200))


class Asked(Holding):
    """Remembers what it was told."""

    may_wait: bool | None = None

    def open(self, *, may_wait: bool) -> None:
        self.may_wait = may_wait


@pytest.mark.parametrize(
    ("live", "policy", "waits"),
    [(False, None, True), (False, "latest", False), (True, None, False), (True, "block", False)],
)
def test_frames_are_held_back_only_where_nobody_waits_for_them(
    live: bool, policy: DropPolicy | None, waits: bool
) -> None:
    refiner = Asked(0)
    flow = FlowOptions(warmup=0, drop_policy=policy)
    source = GraySource(3, live=live, fps=400)
    Pipeline(source, BrightnessEngine(), None, [ListSink()], refiner=refiner, flow=flow).run()
    assert refiner.may_wait is waits


def test_frames_are_held_back_over_the_end_and_sound_and_order_are_kept() -> None:
    sink = ListSink(wants_picture=True)
    run(GraySource(LOOK_AHEAD - 2), BrightnessEngine(), "input", sink)
    assert [item.frame.index for item in sink.items] == list(range(LOOK_AHEAD - 2))


def test_a_frame_whose_inference_failed_is_shown_to_nobody() -> None:
    sink = ListSink(wants_picture=True)
    with pytest.raises(EngineError, match="device was lost"):
        run(GraySource(200), BrightnessEngine(fail_at=150), "input", sink)
    assert all(item.frame.index < 149 for item in sink.items)
    for item in sink.items:
        if item.frame.index > 127:
            luma = planes_420(item.frame.video.reformat(format="yuv420p"))[0]
            assert (luma == FILL).all()


# -- the command ----------------------------------------------------------------------


def luma_of(path: Path) -> list[U8]:
    with av.open(str(path)) as container:
        return [
            planes_420(decoded.reformat(format="yuv420p"))[0].copy()
            for decoded in container.decode(video=0)
        ]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person is whatever is brighter than half; all else is road."""
    net = TinyNet(stride=1)
    net.first[:] = net.second[:] = 0
    net.first[0, :, 1, 1] = 1 / 3
    net.second[11, 0] = 1
    net.offset[:] = -9
    net.offset[0], net.offset[11] = 0, -0.5
    path = tmp_path_factory.mktemp("network") / "brightness.onnx"
    return net.save_ours(path, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=255.0)


def test_the_command_covers_in_files_and_pictures(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_video(tmp_path / "drive.mp4", frames=45, size=(128, 96), audio=True)
    out, pictures = tmp_path / "shared.mp4", tmp_path / "frames"
    pictures.mkdir()
    code = main(
        [
            *("--source", str(clip), "--out", str(out), "--out", str(pictures / "f_%06d.png")),
            *("--engine", str(network), "--view", "input", "--redact", "person"),
            *("--redact-style", "fill", "--redact-hold", "0"),
        ]
    )
    said = capsys.readouterr().err
    assert code == 0, said
    assert "--no-audio" in said
    found = luma_of(out)
    assert len(found) == 45
    assert len(list(pictures.iterdir())) == 45
    # levels rise to 206; a frame over half of the range is a person everywhere
    assert abs(int(found[-1][40:, 40:].mean()) - FILL) < 3
    assert found[5].mean() < 90


@pytest.mark.parametrize("words", [[], ["--view", "side-by-side"], ["--smooth"]])
def test_several_sources_in_one_picture_are_covered_each(
    network: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sources that are white, so "person", all over; beside them are borders and names."""
    out = tmp_path / "grid.mp4"
    white = "lavfi:color=white:size=128x96:rate=10:duration=1"
    code = main(
        [
            *("--source", white, "--source", f"{white},format=yuv420p", "--out", str(out)),
            *("--engine", str(network), "--alpha", "0", "--redact", "person"),
            *("--redact-style", "fill", "-q", *words),
        ]
    )
    assert code == 0, capsys.readouterr().err
    for luma in luma_of(out):
        assert (luma > 150).mean() < 0.05
    assert any((abs(luma.astype(int) - FILL) < 4).mean() > 0.5 for luma in luma_of(out))


def test_options_without_redact_and_unknown_classes_are_refused(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_video(tmp_path / "drive.mp4", frames=3)
    arguments = ["--source", str(clip), "--out", "null", "--engine", str(network)]
    assert main([*arguments, "--redact-style", "fill"]) == 2
    assert "--redact-style does nothing without --redact" in capsys.readouterr().err
    assert main([*arguments, "--redact", "persn"]) == 2
    assert "unknown class 'persn'" in capsys.readouterr().err


def test_a_covered_frame_lasts_as_long() -> None:
    item = seen(0, True)
    item.frame.video.time_base, item.frame.video.duration = Fraction(1, 1000), 5000
    (covered,) = redactor().push(item)
    assert covered.frame.video is not item.frame.video
    assert covered.frame.lasts_s == item.frame.lasts_s == 5
