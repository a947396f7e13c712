from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.realtime.sinks.jsonl import JsonlSink, class_shares
from rtseg.realtime.wallclock import utc_text
from tests.realtime.sinks.parts import context, labels_of, rendered


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_shares_add_up_to_one_and_count_pixels(labels):
    shares = class_shares(labels, CITYSCAPES)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    for index, name in enumerate(CITYSCAPES.names):
        assert shares.get(name, 0) == (labels == index).mean()
    assert shares.get("void", 0) == (labels >= 19).mean()


def test_every_line_is_there_before_the_next_frame(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonlSink(path) as sink:
        sink.open(context())
        for index, item in enumerate(rendered(4)):
            sink.write(item)
            text = path.read_text()
            assert text.endswith("\n")
            lines = [json.loads(line) for line in text.splitlines()]
            assert [line["index"] for line in lines] == list(range(index + 1))
    last = lines[-1]
    assert last["pts_s"] == pytest.approx(3 / 25)
    assert last["stages_ms"] == {"infer": 1.5}
    assert sum(last["classes"].values()) == pytest.approx(1, abs=1e-4)
    assert last["classes"]["void"] == pytest.approx((labels_of(3) == 255).mean(), abs=1e-6)


def test_a_class_may_be_called_void():
    classes = ClassTable(("void", "road"), ((0, 0, 0), (9, 9, 9)))
    shares = class_shares(np.array([[0, 0, 1, 1], [1, 1, 1, 255]], np.uint8), classes)
    assert shares == {"road": 5 / 8, "void": 3 / 8}


@pytest.mark.parametrize("live", [True, False])
def test_lines_of_a_live_source_say_when_the_frame_came(tmp_path, live):
    path = tmp_path / "a.jsonl"
    with JsonlSink(path) as sink:
        sink.open(context(live=live))
        items = list(rendered(3))
        for item in items:
            sink.write(item)
    said = [json.loads(line).get("captured_at") for line in path.read_text().splitlines()]
    assert said == [utc_text(item.frame.captured_at) if live else None for item in items]
