"""Streams from real servers on this machine: RTSP, HTTP, TCP and UDP."""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.source import Source
from tests.media import frame_number, make_images, make_video, picture
from tests.servers.running import (
    http_server,
    needs_rtsp_server,
    rtsp_server,
    send_then_close,
    send_then_stall,
    tcp_server,
)

SECRET = "p@ss:w/rd"
ESCAPED = "p%40ss%3Aw%2Frd"


def opened(url: str, **options: Any) -> Source:
    source = open_source(url, SourceOptions(**{"timeout_s": 8.0, "reconnect": 0, **options}))
    source.open()
    return source


def error_of(url: str, **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        opened(url, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    assert ESCAPED not in message
    assert "Errno" not in message
    return caught.value


def numbers(source: Source, count: int | None = None) -> list[int]:
    return [frame_number(f.video) for f in itertools.islice(source.frames(), count)]


def ends_soon(source: Source, act: Callable[[], None]) -> list[BaseException]:
    """Read in a thread, ``act``, and return what the reader raised; it must end by itself."""
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in source.frames():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.7)  # the reader has had all there was and waits
    act()
    thread.join(15)  # a second is promised; the time limits below are 30
    assert not thread.is_alive()
    return errors


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ts") / "drive.ts"
    return make_video(path, 40, gop=5, format="mpegts").read_bytes()


# -- RTSP --------------------------------------------------------------------------------


@needs_rtsp_server
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_frames_arrive_in_order(tmp_path: Path, transport: str) -> None:
    clip = make_video(tmp_path / "drive.mp4", 40, gop=5)
    pipeline = f"( filesrc location={clip} ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 )"
    with rtsp_server(pipeline) as (port, _):
        source = opened(f"rtsp://127.0.0.1:{port}/live", rtsp_transport=transport)
        with source:
            info = source.info
            found = numbers(source, 20)
    assert (info.width, info.height, info.live, info.stem) == (96, 64, True, "live")
    assert info.frames is None
    assert info.duration_s is None
    assert len(found) == 20
    assert found == list(range(found[0], found[0] + 20))


SDP = (
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
)


def refuse_transport(connection: socket.socket, _: threading.Event) -> None:
    """Answer as a camera that sends in one way alone: 461 to every SETUP."""
    with connection.makefile("rb") as lines:
        while words := lines.readline().split():
            number = b""
            while line := lines.readline().strip():
                if line.lower().startswith(b"cseq"):
                    number = line
            answer, body = b"200 OK", b""
            if words[0] == b"DESCRIBE":
                body = SDP
            if words[0] == b"SETUP":
                answer = b"461 Unsupported Transport"
            kind = b"Content-Type: application/sdp\r\n" if body else b""
            head = b"RTSP/1.0 %b\r\n%b\r\nPublic: DESCRIBE, SETUP\r\n" % (answer, number)
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + kind + length + body)


def send_rtp(port: int, over: threading.Event) -> None:
    """Send pictures as RTP until the event is set; their parameters come with each keyframe."""
    with av.open(f"rtp://127.0.0.1:{port}", "w", format="rtp") as out:
        stream = out.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.gop_size = 5
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "annexb=1"}
        for index in itertools.count():
            frame = picture(index, (96, 64))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
            if over.wait(0.04):
                return


def test_rtp_by_an_sdp_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1] // 2 * 2  # RTP's ports are even
    path = tmp_path / "camera.sdp"
    path.write_bytes(SDP.replace(b"video 0", b"video %d" % port))
    over = threading.Event()
    sender = threading.Thread(target=send_rtp, args=(port, over))
    sender.start()
    try:
        with opened(str(path)) as source:
            found = numbers(source, 10)
            assert (source.info.live, source.info.width, source.info.stem) == (True, 96, "camera")
    finally:
        over.set()
        sender.join()
    assert len(found) == 10
    assert all(b != a for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(("transport", "other"), [("tcp", "udp"), ("udp", "tcp")])
def test_rtsp_in_a_way_the_camera_does_not_send(transport: str, other: str) -> None:
    with tcp_server(refuse_transport) as port:
        error = error_of(f"rtsp://127.0.0.1:{port}/live", rtsp_transport=transport)
    assert error.reason == "PROTOCOL_UNSUPPORTED"
    assert str(error).endswith(f"try --rtsp-transport {other}")


@needs_rtsp_server
def test_rtsp_with_sound_gives_the_picture_alone() -> None:
    pipeline = (
        "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 "
        "! x264enc tune=zerolatency speed-preset=ultrafast ! rtph264pay name=pay0 pt=96 "
        "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8 )"
    )
    with (
        rtsp_server(pipeline) as (port, _),
        opened(f"rtsp://127.0.0.1:{port}/live") as source,
    ):
        frames = list(itertools.islice(source.frames(), 15))
        assert source.info.passthrough == ()
        assert not any(frame.packets for frame in frames)
        assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))


@needs_rtsp_server
@pytest.mark.parametrize("method", ["basic", "digest"])
def test_rtsp_user_and_password(method: str) -> None:
    from tests.servers.running import TEST_PIPELINE

    with rtsp_server(TEST_PIPELINE, method, "driver", SECRET) as (port, _):
        host = f"127.0.0.1:{port}/live"
        with opened(f"rtsp://driver:{ESCAPED}@{host}") as source:
            assert len(list(itertools.islice(source.frames(), 3))) == 3
            assert source.info.name == f"rtsp://***@{host}"
        for url in (f"rtsp://{host}", f"rtsp://driver:wrong@{host}"):
            error = error_of(url)
            assert error.reason == "AUTH_FAILED"
            assert "wrong" not in str(error)


@needs_rtsp_server
def test_rtsp_server_without_that_stream() -> None:
    with rtsp_server() as (port, _):
        assert error_of(f"rtsp://127.0.0.1:{port}/other").reason == "NOT_FOUND"


@needs_rtsp_server
def test_rtsp_server_that_dies_ends_the_source() -> None:
    with rtsp_server() as (port, process):
        source = opened(f"rtsp://127.0.0.1:{port}/live", timeout_s=30.0)
        with source:
            errors = ends_soon(source, process.kill)
    assert all(isinstance(e, SourceError) and e.reason == "CONNECTION_FAILED" for e in errors)


@needs_rtsp_server
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_stall_times_out_and_close_does_not_wait_for_it(transport: str) -> None:
    with rtsp_server() as (port, process):
        url = f"rtsp://127.0.0.1:{port}/live"
        with opened(url, timeout_s=30.0, rtsp_transport=transport) as source:
            psutil.Process(process.pid).suspend()
            assert ends_soon(source, source.close) == []
        psutil.Process(process.pid).resume()
        with opened(url, timeout_s=1.5, rtsp_transport=transport) as source:
            psutil.Process(process.pid).suspend()
            with pytest.raises(SourceError) as caught:
                list(source.frames())
            assert caught.value.reason == "TIMEOUT"
            assert "--timeout" in str(caught.value)
        psutil.Process(process.pid).resume()


# -- connecting --------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp", "rtmp"])
def test_nobody_listens(scheme: str) -> None:
    error = error_of(f"{scheme}://driver:{ESCAPED}@127.0.0.1:{free_port()}/live")
    assert error.reason == "CONNECTION_FAILED"
    assert "***@127.0.0.1" in str(error)


def test_a_protocol_that_this_ffmpeg_does_not_speak() -> None:
    """PyAV's wheels come without libsrt; another FFmpeg gets as far as a connection."""
    error = error_of("srt://127.0.0.1:9", timeout_s=1.0)
    assert error.reason in ("PROTOCOL_UNSUPPORTED", "CONNECTION_FAILED", "TIMEOUT")
    if error.reason == "PROTOCOL_UNSUPPORTED":
        assert "does not speak that protocol" in str(error)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp", "rtmp"])
def test_a_server_that_says_nothing(scheme: str) -> None:
    with tcp_server(send_then_stall(b"")) as port:
        begun = time.monotonic()
        assert error_of(f"{scheme}://127.0.0.1:{port}/live", timeout_s=0.5).reason == "TIMEOUT"
        assert time.monotonic() - begun < 25  # FFmpeg's own limits are longer


def test_udp_that_nobody_sends() -> None:
    assert error_of(f"udp://127.0.0.1:{free_port()}", timeout_s=0.5).reason == "TIMEOUT"


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_close_while_opening(scheme: str) -> None:
    with tcp_server(send_then_stall(b"")) as port:
        source = open_source(
            f"{scheme}://127.0.0.1:{port}/live", SourceOptions(timeout_s=30, reconnect=0)
        )
        errors: list[BaseException] = []

        def connect() -> None:
            try:
                source.open()
            except SourceError as error:
                errors.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        time.sleep(0.3)
        source.close()
        thread.join(15)
        assert not thread.is_alive()
    assert [getattr(error, "reason", None) for error in errors] == ["CLOSED"]


def test_a_protocol_that_is_no_video() -> None:
    with tcp_server(send_then_close(b"220 mail server ready\r\n" * 200)) as port:
        error = error_of(f"tcp://127.0.0.1:{port}")
    assert error.reason == "NOT_A_VIDEO"


# -- TCP and UDP -------------------------------------------------------------------------


def test_tcp_gives_every_frame_and_ends_with_the_connection(transport_stream: bytes) -> None:
    with (
        tcp_server(send_then_close(transport_stream)) as port,
        opened(f"tcp://127.0.0.1:{port}") as source,
    ):
        assert source.info.live
        assert numbers(source) == list(range(40))


def test_a_picture_that_waited_for_its_reader_is_not_shown(transport_stream: bytes) -> None:
    with (
        tcp_server(send_then_close(transport_stream)) as port,
        opened(f"tcp://127.0.0.1:{port}") as source,
    ):
        time.sleep(0.6)  # an engine is loaded meanwhile
        frames = list(source.frames())
    assert (frames[0].index, frames[0].pts) == (0, 0)
    assert [frame_number(frame.video) for frame in frames] == list(range(1, 40))
    assert [frame.index for frame in frames] == list(range(39))


def test_tcp_stall_times_out(transport_stream: bytes) -> None:
    with (
        tcp_server(send_then_stall(transport_stream)) as port,
        opened(f"tcp://127.0.0.1:{port}", timeout_s=1.0) as source,
        pytest.raises(SourceError) as caught,
    ):
        list(source.frames())
    assert caught.value.reason == "TIMEOUT"


def test_close_does_not_wait_for_the_time_limit(transport_stream: bytes) -> None:
    with (
        tcp_server(send_then_stall(transport_stream)) as port,
        opened(f"tcp://127.0.0.1:{port}", timeout_s=30.0) as source,
    ):
        assert ends_soon(source, source.close) == []


def test_twenty_connections_leave_nothing_behind(transport_stream: bytes) -> None:
    process = psutil.Process()
    with tcp_server(send_then_stall(transport_stream)) as port:

        def round_trip() -> None:
            with opened(f"tcp://127.0.0.1:{port}") as source:
                next(source.frames())

        round_trip()
        mine = {t.name for t in threading.enumerate()}
        sockets = len(connected_to(process, port))
        for _ in range(20):
            round_trip()
        assert len(connected_to(process, port)) <= sockets
        assert {t.name for t in threading.enumerate() if t.name == "rtseg-open-source"} == set()
        assert mine


def connected_to(process: psutil.Process, port: int) -> list[Any]:
    """Return this process's own ends of connections to ``port``."""
    return [c for c in process.net_connections("tcp") if c.raddr and c.raddr.port == port]


def test_close_works_where_the_clock_cannot_be_reached(
    transport_stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another PyAV may keep its clock elsewhere: the time limit must end the reader then."""
    from av.container import core

    monkeypatch.setattr(core, "time", time_elsewhere())
    with (
        tcp_server(send_then_stall(transport_stream)) as port,
        opened(f"tcp://127.0.0.1:{port}", timeout_s=1.5) as source,
    ):
        assert ends_soon(source, source.close) == []


def time_elsewhere() -> object:
    class Elsewhere:
        monotonic = staticmethod(time.monotonic)

    return Elsewhere()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
def test_udp_from_ffmpeg(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "drive.mp4", 40, gop=5)
    port = free_port()
    sender = subprocess.Popen(
        [
            *("ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip)),
            *("-c", "copy", "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"),
        ]
    )
    try:
        with opened(f"udp://127.0.0.1:{port}") as source:
            assert source.info.live
            frames = list(itertools.islice(source.frames(), 60))
    finally:
        sender.kill()
        sender.wait()
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
    found = [frame_number(frame.video) for frame in frames[:20]]
    steps = {(b - a) % 40 for a, b in itertools.pairwise(found)}
    assert steps == {1}


# -- HTTP --------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    make_video(tmp_path / "drive.mp4", 40, audio=True)
    make_images(tmp_path, 20, pattern="frame_%02d.jpg")
    (tmp_path / "page.html").write_text("<html><body>no video</body></html>" * 20)
    with http_server(tmp_path) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("name", ["drive.mp4", "moved"])
def test_a_file_behind_http_is_read_as_a_file(web: str, name: str) -> None:
    with opened(f"{web}/{name}") as source:
        assert not source.info.live
        assert source.info.frames == 40
        assert [stream.type for stream in source.info.passthrough] == ["audio"]
        assert numbers(source) == list(range(40))


def test_a_part_of_a_file_behind_http(web: str) -> None:
    with opened(f"{web}/drive.mp4", start_s=1.0, duration_s=0.2, loop=2) as source:
        assert numbers(source) == [*range(25, 30), *range(25, 30)]


def test_motion_jpeg_over_http_is_live(web: str) -> None:
    with opened(f"{web}/stream.mjpg") as source:
        assert source.info.live
        found: list[int] = []

        def read() -> None:
            for frame in source.frames():
                found.append(frame_number(frame.video))

        # A camera's stream has no end of its own: when the server hangs up, that is said.
        with pytest.raises(SourceError) as caught:
            read()
    assert caught.value.reason == "CONNECTION_FAILED"
    assert found == list(range(20))


@pytest.mark.parametrize("reconnect", [0, 1])
def test_bare_pictures_have_the_time_at_which_they_came(web: str, reconnect: int) -> None:
    """Motion JPEG names no times; those of 25 pictures a second would be wrong for all others."""
    with opened(f"{web}/stream.mjpg", reconnect=reconnect) as source:
        frames = list(itertools.islice(source.frames(), 20))
    assert len(frames) == 20
    for frame in frames:
        came_s = (frame.captured_ns - frames[0].captured_ns) / 1e9
        assert frame.pts_s == pytest.approx(came_s, abs=0.002)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("401", "AUTH_FAILED"),
        ("403", "AUTH_FAILED"),
        ("404", "NOT_FOUND"),
        ("429", "CONNECTION_FAILED"),
        ("503", "CONNECTION_FAILED"),
        ("page.html", "NOT_A_VIDEO"),
    ],
)
def test_answers_that_are_no_video(web: str, path: str, reason: str) -> None:
    error = error_of(f"{web}/{path}")
    assert error.reason == reason
    assert ("A page that plays a video is not the video" in str(error)) == (path == "page.html")


def test_a_server_that_gives_no_parts_of_files_is_explained(tmp_path: Path) -> None:
    # Its index lies at the end, further away than FFmpeg reads on.
    make_video(tmp_path / "a.mp4", 60, (640, 480), codec="mjpeg", pixel_format="yuvj420p")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        error = error_of(f"http://127.0.0.1:{server.server_address[1]}/a.mp4")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert error.reason == "CONNECTION_FAILED"
    assert "+faststart" in str(error)
