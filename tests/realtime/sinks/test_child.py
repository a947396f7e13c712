from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.realtime.errors import SinkError
from rtseg.realtime.sinks.child import start_module
from rtseg.realtime.sinks.viewer import HEADER
from rtseg.realtime.sinks.window import WindowSink
from tests.realtime.sinks.parts import context


@pytest.mark.parametrize("start", ["module", "window"])
def test_a_file_in_the_users_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """The viewer imports OpenCV once a picture comes."""
    (tmp_path / "cv2.py").write_text("open('was run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    if start == "module":
        process = start_module("rtseg.realtime.sinks.viewer", "t", complaints=subprocess.PIPE)
    else:
        monkeypatch.setattr("rtseg.realtime.sinks.window.has_display", lambda: True)
        sink = WindowSink()
        sink.open(context())
        assert sink._process is not None
        process = sink._process
    process.communicate(HEADER.pack(2, 2) + bytes(12))
    if start == "window":
        sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["cv2.py"]


def test_a_window_that_cannot_be_started_leaves_no_file_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rtseg.realtime.sinks.window.has_display", lambda: True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    sink = WindowSink()
    with pytest.raises(SinkError, match="cannot start the window"):
        sink.open(context())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    sink.close()
