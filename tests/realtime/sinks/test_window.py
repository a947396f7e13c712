"""The window on a real X server (Xvfb), with real keys (xdotool)."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import SinkError
from rtseg.realtime.sinks.display import has_display
from rtseg.realtime.sinks.stale import (
    REMARK_S,
    STALE_S,
    mark_stale,
    stale_after_s,
    stale_text,
)
from rtseg.realtime.sinks.window import WindowSink
from tests.realtime.sinks.parts import context, rendered

needs_x = pytest.mark.skipif(
    shutil.which("Xvfb") is None or shutil.which("xdotool") is None,
    reason="needs Xvfb and xdotool",
)


@pytest.fixture
def display(monkeypatch):
    """An X server of its own, as a process."""
    read_end, write_end = os.pipe()
    # -noreset: a server without clients would start anew, and refuse whoever comes meanwhile
    words = ["-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), *words],
        pass_fds=[write_end],
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        number = answer.readline().strip()
    assert number, "Xvfb did not start"
    monkeypatch.setenv("DISPLAY", f":{number}")
    yield server
    server.terminate()
    server.wait()


def xdotool(*words):
    done = subprocess.run(["xdotool", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def wait_until(condition, timeout_s=20.0):
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


@contextmanager
def showing(sink):
    """Run a window as the loop does, with idle calls, until the viewer quits."""
    ended = threading.Event()
    errors = []

    def run():
        try:
            with sink:
                sink.open(context())
                for item in rendered(1_000_000):
                    sink.write(item)
                    sink.idle()
                    if sink.controls.quit or ended.wait(0.01):
                        return
        except SinkError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        ended.set()
        thread.join(60)
        assert errors == []
        assert not thread.is_alive()


def the_window():
    window = wait_until(lambda: xdotool("search", "--name", "rt-seg a source")).split()[0]
    # without a window manager nobody gives it the keyboard
    xdotool("windowfocus", "--sync", window)
    return window


class ClientMessage(ctypes.Structure):
    """Xlib's XClientMessageEvent, padded to the size of an XEvent."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    )


def click_the_cross(window):
    """Send what a window manager sends for that: WM_DELETE_WINDOW."""
    xlib = ctypes.CDLL("libX11.so.6")
    xlib.XOpenDisplay.restype = ctypes.c_void_p
    xlib.XInternAtom.restype = ctypes.c_ulong
    connection = ctypes.c_void_p(xlib.XOpenDisplay(None))
    protocols = xlib.XInternAtom(connection, b"WM_PROTOCOLS", 0)
    delete = xlib.XInternAtom(connection, b"WM_DELETE_WINDOW", 0)
    event = ClientMessage(type=33, window=int(window), message_type=protocols, format=32)
    event.data[0] = delete
    xlib.XSendEvent(connection, ctypes.c_ulong(int(window)), 0, 0, ctypes.byref(event))
    xlib.XCloseDisplay(connection)


@needs_x
def test_keys_reach_the_controls(display, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert has_display()
    controls = Controls()
    with showing(WindowSink(controls)) as thread:
        the_window()
        before = controls.options
        for key, changed in (
            ("Tab", lambda: controls.options.view != before.view),
            ("h", lambda: controls.options.hud),
            ("l", lambda: controls.options.legend),
            ("plus", lambda: controls.options.alpha > before.alpha),
            ("minus", lambda: controls.options.alpha == before.alpha),
            ("space", lambda: controls.paused),
            ("s", lambda: list(tmp_path.glob("drive_*.png"))),
        ):
            xdotool("key", key)
            wait_until(changed)
        assert not controls.take_step()
        xdotool("key", "period")
        wait_until(controls.take_step)
        xdotool("key", "q")
        wait_until(lambda: controls.quit)
        thread.join(60)
        assert not thread.is_alive()


@needs_x
def test_escape_quits(display):
    controls = Controls()
    with showing(WindowSink(controls)):
        the_window()
        xdotool("key", "Escape")
        wait_until(lambda: controls.quit)


@needs_x
def test_closing_the_window_quits(display):
    controls = Controls()
    with showing(WindowSink(controls)):
        window = the_window()
        click_the_cross(window)
        wait_until(lambda: controls.quit)


@needs_x
def test_the_window_has_the_size_of_the_picture(display):
    with showing(WindowSink(Controls())):
        window = the_window()
        wait_until(lambda: "96x64" in xdotool("getwindowgeometry", window))


@needs_x
def test_pictures_stay_when_the_pipeline_loaded_av_first(display):
    """Both wheels bring a libxcb; in one process OpenCV's window would hang for good."""
    code = (
        "import av, cv2\n"
        "from tests.realtime.sinks.parts import context, write_frames\n"
        "from rtseg.realtime.sinks.window import WindowSink\n"
        "with WindowSink() as sink:\n"
        "    sink.open(context()); write_frames(sink, 5)\n"
        "print('shown')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "shown\n"
    assert done.stderr == ""


@needs_x
def test_an_x_server_that_dies_is_an_error_and_no_crash(display):
    sink = WindowSink(Controls())
    sink.open(context())
    items = rendered(200)
    sink.write(next(items))
    display.kill()

    def show_all():
        for item in items:
            sink.write(item)
            time.sleep(0.01)

    with pytest.raises(SinkError) as caught:
        show_all()
    sink.close()
    assert caught.value.reason == "NO_DISPLAY"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", ":987", "nonsense", "localhost:55", "no.such.host.invalid:1"])
def test_without_a_display_there_is_an_error_and_no_crash(monkeypatch, name):
    monkeypatch.setenv("DISPLAY", name)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-9")
    assert not has_display()
    sink = WindowSink()
    with pytest.raises(SinkError) as caught:
        sink.open(context())
    sink.close()
    assert caught.value.reason == "NO_DISPLAY"
    assert "--out FILE" in str(caught.value)


@needs_x
def test_the_last_picture_of_a_live_source_is_marked_once_it_is_old(display, monkeypatch):
    sink = WindowSink()
    ages = []

    def noted(bgr, age_s):
        ages.append(age_s)
        return mark_stale(bgr, age_s)

    monkeypatch.setattr("rtseg.realtime.sinks.window.mark_stale", noted)
    with sink:
        sink.open(context((320, 240), live=True))
        sink.write(next(rendered(1, (320, 240))))
        sink.write(next(rendered(1, (320, 240))))  # however long the window took to appear
        sink.idle()
        assert not ages  # not old yet

        def marked_twice():
            sink.idle()
            return len(ages) == 2

        wait_until(marked_twice)
        assert ages[0] >= STALE_S
        assert ages[1] - ages[0] >= REMARK_S

        def answered():
            sink.idle()
            return sink._waiting == 0

        sink.controls.press("space")  # whoever pauses knows
        assert sink.controls.paused
        wait_until(answered)  # the window has shown them
        time.sleep(REMARK_S * 1.5)
        sink.idle()
        assert len(ages) == 2
        sink.controls.press("space")
        sink.write(next(rendered(1, (320, 240))))
        sink.idle()
        assert len(ages) == 2


@pytest.mark.parametrize("size", [(16, 16), (96, 64), (1920, 1080), (64, 2000)])
def test_a_stale_picture_is_marked_whatever_its_size(size):
    width, height = size
    picture = np.full((height, width, 3), 200, np.uint8)
    marked = mark_stale(picture, 4000.0)
    assert marked.shape == picture.shape
    assert int(picture.min()) == 200  # a copy
    assert int(marked[0, 0].max()) < 150  # dimmed
    assert len(np.unique(marked)) > 2  # text


def test_the_age_of_a_stale_picture_in_words():
    texts = [stale_text(age_s) for age_s in (2.9, 61, 3600)]
    assert texts == [f"no new frame for {age}" for age in ("2 s", "1:01", "1:00:00")]


def test_a_slow_source_is_stale_after_three_frames():
    assert stale_after_s(context(fps=Fraction(1, 2)).source) == 6
    assert stale_after_s(context(fps=None).source) == STALE_S
