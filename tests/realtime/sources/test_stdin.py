"""A container's bytes on standard input, or in a named pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.stdin import StdinSource
from tests.media import frame_number, make_video

COUNT = (
    "from rtseg.realtime.sources.resolve import open_source\n"
    "with open_source('-') as source:\n"
    "    print(sum(1 for _ in source.frames()), source.info.stem)"
)


def piped(data: bytes) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", COUNT], input=data, capture_output=True)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@pytest.mark.parametrize("suffix", ["ts", "mkv", "avi", "mjpeg"])
def test_a_real_pipe(tmp_path: Path, suffix: str) -> None:
    codec = {"avi": "mpeg4", "mjpeg": "mjpeg"}.get(suffix, "libx264")
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = make_video(tmp_path / f"a.{suffix}", 25, codec=codec, pixel_format=pixel_format)
    done = piped(path.read_bytes())
    assert done.stdout == "25 stdin\n", done.stderr


def test_a_redirected_file_can_be_searched(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 25)
    with path.open("rb") as file:
        done = subprocess.run([sys.executable, "-c", COUNT], stdin=file, capture_output=True)
    assert done.stdout == b"25 stdin\n", done.stderr


def test_an_mp4_with_its_index_at_the_end_gets_advice(tmp_path: Path) -> None:
    # Longer than what FFmpeg holds in its buffer.
    path = make_video(tmp_path / "a.mp4", 50, (640, 480), codec="mjpeg", pixel_format="yuvj420p")
    done = piped(path.read_bytes())
    assert "reason" not in done.stdout
    assert "NOT_A_VIDEO" not in done.stdout
    assert "+faststart" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("data", [b"", b"no video at all\n" * 50])
def test_what_is_no_video(data: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with pytest.raises(SourceError) as caught:
        StdinSource(SourceOptions(), fd=reader).open()
    assert caught.value.reason in ("NOT_A_VIDEO", "NO_FRAMES")
    os.close(reader)


def test_a_terminal_is_no_video() -> None:
    master, terminal = pty.openpty()
    with pytest.raises(UsageError):
        StdinSource(SourceOptions(), fd=terminal).open()
    os.close(master)
    os.close(terminal)


def test_close_ends_a_reader_that_waits_for_bytes(tmp_path: Path) -> None:
    data = make_video(tmp_path / "a.ts", 40, gop=5, format="mpegts").read_bytes()
    reader, writer = os.pipe()
    source = StdinSource(SourceOptions(), fd=reader)
    seen: list[int] = []

    def read() -> None:
        with suppress(SourceError):  # FFmpeg may still have been looking for the format
            source.open()
            seen.extend(frame.index for frame in source.frames())

    # More of the stream would follow, and never does.
    feeder = threading.Thread(target=os.write, args=(writer, data))
    thread = threading.Thread(target=read)
    feeder.start()
    thread.start()
    feeder.join()
    thread.join(0.5)
    assert thread.is_alive()
    source.close()
    thread.join(15)
    assert not thread.is_alive()
    os.close(reader)
    os.close(writer)


# -- named pipes -------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "camera"
    os.mkfifo(path)
    return path


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path, fifo: Path) -> None:
    data = make_video(tmp_path / "a.ts", 25, gop=5, format="mpegts").read_bytes()
    feeder = threading.Thread(target=fifo.write_bytes, args=(data,))
    feeder.start()
    with open_source(str(fifo)) as source:
        assert sum(1 for _ in source.frames()) == 25
        assert source.info.stem == "camera"
    feeder.join()


def test_a_pipe_is_not_played_again(
    tmp_path: Path, fifo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path / "a.mkv", 25)
    writer = threading.Thread(target=fifo.write_bytes, args=(path.read_bytes(),))
    writer.start()
    with open_source(str(fifo), SourceOptions(loop=3)) as source:
        assert source.info.duration_s == pytest.approx(1.0, abs=0.05)
        assert sum(1 for _ in source.frames()) == 25
    writer.join()
    assert caplog.text.count("--loop has no effect") == 1


@pytest.mark.parametrize("connected", [False, True])
def test_close_ends_the_wait_for_a_named_pipes_writer(fifo: Path, connected: bool) -> None:
    source = open_source(str(fifo))
    errors: list[SourceError] = []

    def read() -> None:
        try:
            source.open()
        except SourceError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    writer = os.open(fifo, os.O_WRONLY) if connected else None
    thread.join(0.5)
    assert thread.is_alive()
    source.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(errors) == 1
    if writer is not None:
        os.close(writer)


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_pipe_is_read_in_software_where_the_device_is_missing(
    tmp_path: Path, suffix: str, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    from av.codec.hwaccel import hwdevices_available

    if "cuda" not in hwdevices_available() or Path("/dev/nvidia0").exists():
        pytest.skip("needs an FFmpeg with CUDA on a machine without")
    data = make_video(tmp_path / f"a.{suffix}", 25, gop=5).read_bytes()
    reader, writer = os.pipe()
    feeder = threading.Thread(target=_write_all, args=(writer, data))
    feeder.start()
    with StdinSource(SourceOptions(hwaccel=device), fd=reader) as source:
        assert [frame_number(frame.video) for frame in source.frames()] == list(range(25))
    feeder.join()
    os.close(reader)
    assert caplog.text.count("decoding in software") == 1


def _write_all(fd: int, data: bytes) -> None:
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def test_what_is_no_video_in_a_named_pipe(fifo: Path) -> None:
    feeder = threading.Thread(target=fifo.write_bytes, args=(b"no video at all\n" * 50,))
    feeder.start()
    with pytest.raises(SourceError) as caught:
        open_source(str(fifo)).open()
    feeder.join()
    assert caught.value.reason == "NOT_A_VIDEO"
    assert "+faststart" in str(caught.value)
