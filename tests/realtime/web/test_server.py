"""Video, numbers and wishes of the live page, against a real server."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import now_ns
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.web import WebSink
from rtseg.realtime.web import server
from rtseg.realtime.web.address import WebAddress
from rtseg.realtime.web.state import health_of
from rtseg.realtime.web.watchers import MOST_WATCHERS
from tests.realtime.sinks.parts import context, rendered
from tests.realtime.web.parts import SIZE, Fed, page

WAIT_S = 60.0


@pytest.fixture
def fed() -> Iterator[Fed]:
    with page() as made:
        yield made


def until(true: Any, what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def frames(stream: Iterator[bytes]) -> Iterator[np.ndarray]:
    """Yield the pictures of a multipart stream as soon as they are whole."""
    rest = b""
    for part in stream:
        rest += part
        while match := re.search(rb"Content-Length: (\d+)\r\n\r\n", rest):
            begin, size = match.end(), int(match[1])
            if len(rest) < begin + size + len(b"\r\n--rtseg-frame\r\n"):
                break
            jpeg = np.frombuffer(rest[begin : begin + size], np.uint8)
            image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
            assert image is not None
            yield np.asarray(image)
            rest = rest[begin + size :]


def open_socket(fed: Fed) -> ClientConnection:
    return connect(f"ws://{fed.host}/ws", open_timeout=WAIT_S)


def hear(wire: ClientConnection, key: str) -> Any:
    """Return the value of the next message that has ``key``."""
    while True:
        message = json.loads(wire.recv(timeout=WAIT_S))
        if key in message:
            return message[key]


def last_words(wire: ClientConnection) -> dict[str, Any]:
    """Return the last message before the server ends the connection."""
    said: dict[str, Any] = {}
    while True:
        try:
            said = json.loads(wire.recv(timeout=WAIT_S))
        except ConnectionClosed:
            return said


def number_in(fed: Fed, *path: str) -> Any:
    value: Any = httpx.get(fed.url + "/state.json", timeout=WAIT_S).json()
    for name in path:
        value = value[name]
    return value


def test_the_video_moves_and_has_the_right_colours(fed: Fed) -> None:
    with httpx.stream("GET", fed.url + "/stream.mjpg", timeout=WAIT_S) as answer:
        assert answer.headers["content-type"].startswith("multipart/x-mixed-replace; boundary=")
        pictures = frames(answer.iter_raw())
        seen = [next(pictures) for _ in range(4)]
    assert all(image.shape == (SIZE[1], SIZE[0], 3) for image in seen)
    assert len({image[120:150, 200:260].tobytes() for image in seen}) > 1
    blue, green, red = (int(value) for value in seen[-1][150, 240])
    assert blue > green > red  # sky is (70, 130, 180)
    blue, green, red = (int(value) for value in seen[-1][150, 80])
    assert green < red  # road is (128, 64, 128)


def test_pictures_are_encoded_only_while_somebody_watches(fed: Fed) -> None:
    until(lambda: fed.written > 5, "frames")
    assert number_in(fed, "page", "encoded") == 0
    with httpx.stream("GET", fed.url + "/stream.mjpg", timeout=WAIT_S) as answer:
        pictures = frames(answer.iter_raw())
        next(pictures)
        assert number_in(fed, "page", "watchers") == 1
    until(lambda: number_in(fed, "page", "watchers") == 0, "the watcher leaves")
    encoded, written = number_in(fed, "page", "encoded"), fed.written
    until(lambda: fed.written > written + 5, "more frames")
    assert number_in(fed, "page", "encoded") == encoded


def test_many_watchers_cost_one_encoding(fed: Fed) -> None:
    until(lambda: fed.written > 0, "a frame")
    fed.controls.set_paused(True)
    streams = [
        httpx.Client(timeout=WAIT_S).send(
            httpx.Request("GET", fed.url + "/stream.mjpg"), stream=True
        )
        for _ in range(4)
    ]
    for answer in streams:  # paused: each gets the last frame at once
        next(frames(answer.iter_raw()))
    assert number_in(fed, "page", "encoded") <= 2  # the last frame, and one on its way to it
    for answer in streams:
        answer.close()


def test_a_watcher_who_never_reads_holds_nobody(fed: Fed) -> None:
    with socket.create_connection(("127.0.0.1", fed.sink.address.port)) as lazy:
        lazy.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: number_in(fed, "page", "watchers") == 1, "the lazy watcher")
        with httpx.stream("GET", fed.url + "/stream.mjpg", timeout=WAIT_S) as answer:
            pictures = frames(answer.iter_raw())
            written = fed.written
            for _ in range(20):
                next(pictures)
        assert fed.written >= written + 15
        assert number_in(fed, "page", "pages") == 0


def test_only_so_many_watch(fed: Fed) -> None:
    with httpx.Client(timeout=WAIT_S, limits=httpx.Limits(max_connections=None)) as client:
        request = client.build_request("GET", fed.url + "/stream.mjpg")
        watching = [client.send(request, stream=True) for _ in range(MOST_WATCHERS)]
        assert {answer.status_code for answer in watching} == {200}
        assert client.get(fed.url + "/stream.mjpg").status_code == 503
        watching.pop().close()
        until(lambda: number_in(fed, "page", "watchers") < MOST_WATCHERS, "a free place")
        again = client.send(request, stream=True)
        assert again.status_code == 200
        for answer in (again, *watching):
            answer.close()


def test_asking_for_the_head_of_the_video_takes_no_place(fed: Fed) -> None:
    assert httpx.head(fed.url + "/stream.mjpg", timeout=WAIT_S).status_code == 405
    assert number_in(fed, "page", "watchers") == 0


def test_a_snapshot_is_the_picture_without_loss(fed: Fed) -> None:
    until(lambda: fed.written > 0, "a frame")
    answer = httpx.get(fed.url + "/snapshot.png", timeout=WAIT_S)
    assert answer.headers["content-type"] == "image/png"
    assert re.search(
        r'attachment; filename="drive_\d{6}\.png"', answer.headers["content-disposition"]
    )
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (SIZE[1], SIZE[0], 3)


def test_before_the_first_frame_there_is_no_snapshot() -> None:
    with WebSink(WebAddress("127.0.0.1", 0)) as sink:
        sink.open(context())
        url = sink.address.url
        assert httpx.get(url + "snapshot.png", timeout=WAIT_S).status_code == 503
        said = httpx.get(url + "state.json", timeout=WAIT_S).json()
        assert said["numbers"]["streams"][0]["state"] == "waiting"


def test_the_numbers(fed: Fed) -> None:
    fed.profiler.drop("newer_frame", 7)
    until(lambda: fed.written > 3, "frames")
    with open_socket(fed) as wire:
        first = json.loads(wire.recv(timeout=WAIT_S))
        assert first["about"]["views"] == ["overlay", "mask", "side-by-side", "input"]
        assert first["about"]["classes"][0] == {"name": "road", "colour": [128, 64, 128]}
        assert first["about"]["source"] == "a source"
        until(lambda: (hear(wire, "sample") or {}).get("p50") is not None, "percentiles")
        numbers = hear(wire, "numbers")
        assert numbers["dropped"] == {"newer_frame": 7}
        assert numbers["frames_out"] <= numbers["frames_in"]
        assert numbers["stages"]["infer"] == pytest.approx(1.5)
        assert numbers["streams"][0]["state"] == "live"
        shares = hear(wire, "shares")
        assert shares[0] == pytest.approx(0.5)
        assert sum(shares) == pytest.approx(1.0)


def test_a_stream_that_stands_still_is_said_to(fed: Fed) -> None:
    until(lambda: fed.written > 0, "a frame")
    fed.stop.set()
    with open_socket(fed) as wire:
        until(lambda: hear(wire, "numbers")["streams"][0]["state"] == "stalled", "stalled")


def test_how_a_stream_is() -> None:
    info, profiler, controls = context(live=True).source, Profiler(), Controls()

    def state() -> str:
        return health_of("cam", profiler, info, controls).state

    assert state() == "waiting"
    profiler.frame_in(now_ns())
    assert state() == "live"
    controls.set_paused(True)
    assert state() == "paused"
    profiler.lost()
    assert state() == "reconnecting"
    profiler.reconnect()
    controls.set_paused(False)
    assert (state(), health_of("cam", profiler, info, controls).reconnects) == ("live", 1)
    profiler.frame_in(now_ns() - 10**10)
    assert state() == "stalled"
    file = context(live=False).source
    assert health_of("slow.mp4", profiler, file, controls).state == "live"
    profiler.ended = "end of input"
    assert state() == "ended"
    profiler.ended = "AUTH_FAILED"
    assert state() == "failed"


def test_wishes_change_the_view_of_the_loop(fed: Fed) -> None:
    with open_socket(fed) as wire, open_socket(fed) as other:
        for wish, name, value in (
            ({"view": "mask"}, "view", "mask"),
            ({"alpha": 0.25}, "alpha", 0.25),
            ({"hud": True}, "hud", True),
            ({"legend": True}, "legend", True),
            ({"classes": [0, 10]}, "classes", [0, 10]),
            ({"key": "tab"}, "view", "side-by-side"),
            ({"key": "+"}, "alpha", 0.35),
            ({"paused": True}, "paused", True),
        ):
            wire.send(json.dumps(wish))
            until(lambda n=name, v=value: hear(other, "view")[n] == v, f"{name} {value}")
    assert fed.controls.options.classes == (0, 10)
    assert fed.controls.paused


def test_a_hidden_class_leaves_the_picture(fed: Fed) -> None:
    def colour() -> tuple[int, ...]:
        png = httpx.get(fed.url + "/snapshot.png", timeout=WAIT_S).content
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        return tuple(int(value) for value in image[150, 80])

    until(lambda: fed.written > 0, "a frame")
    assert len(set(colour())) > 1
    with open_socket(fed) as wire:
        wire.send(json.dumps({"classes": [10]}))
        until(lambda: max(colour()) - min(colour()) <= 2, "road is gray as the frame is")


def test_a_class_hidden_while_paused_leaves_the_very_same_frame() -> None:
    sink = WebSink(WebAddress("127.0.0.1", 0))
    item = next(iter(rendered(1, SIZE)))
    with sink:
        sink.open(context(SIZE))
        sink.write(item)

        def picture() -> bytes:
            return httpx.get(sink.address.url + "snapshot.png", timeout=WAIT_S).content

        first = picture()
        sink.controls.set_paused(True)
        sink.controls.change(lambda view: dataclasses.replace(view, view="mask"))
        sink.idle()
        mask = picture()
        sink.controls.change(lambda view: dataclasses.replace(view, view="overlay"))
        sink.idle()
        assert mask != first
        assert picture() == first


def test_connections_that_ask_nothing_are_closed(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.2)
    with (
        socket.create_connection(("127.0.0.1", fed.sink.address.port)) as silent,
        open_socket(fed) as wire,
        httpx.stream("GET", fed.url + "/stream.mjpg", timeout=WAIT_S) as answer,
    ):
        silent.settimeout(WAIT_S)
        assert silent.recv(1) == b""
        pictures = frames(answer.iter_raw())  # those who asked go on
        next(pictures)
        hear(wire, "sample")


@pytest.mark.parametrize(
    "wrong",
    [
        "", "x", "[]", "{}", "1", '"key"', "null", '{"view": "everything"}', '{"alpha": 2}',
        '{"alpha": NaN}', '{"alpha": true}', '{"alpha": "0.5"}', '{"key": "x"}', '{"key": []}',
        '{"hud": 1}', '{"classes": [99]}', '{"classes": [true]}', '{"classes": "road"}',
        '{"paused": null, "exec": "x"}', '{"view": "mask", "alpha": 7}', "[" * 4000,
        '{"alpha": 1e999}', '{"view": {}}',
    ],
)  # fmt: skip
def test_what_means_nothing_changes_nothing(fed: Fed, wrong: str) -> None:
    before = fed.controls.options
    with open_socket(fed) as wire:
        wire.send(wrong)
        assert hear(wire, "refused")
    assert fed.controls.options == before
    assert not fed.controls.paused


def test_messages_that_are_too_long_or_too_bad_end_the_connection(fed: Fed) -> None:
    with open_socket(fed) as wire:
        wire.send("x" * 5000)
        last_words(wire)
    with open_socket(fed) as wire:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                wire.send("nonsense")
        last_words(wire)


def test_the_end_of_the_run_ends_every_connection_and_thread() -> None:
    before = set(threading.enumerate())
    with contextlib.ExitStack() as ending:
        with page() as fed:
            watching = httpx.Client(timeout=WAIT_S)
            stream = watching.send(
                watching.build_request("GET", fed.url + "/stream.mjpg"), stream=True
            )
            pictures = stream.iter_raw()
            next(pictures)
            wire = ending.enter_context(open_socket(fed))
            silent = socket.create_connection(("127.0.0.1", fed.sink.address.port))
            lazy = socket.create_connection(("127.0.0.1", fed.sink.address.port))
            lazy.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: number_in(fed, "page", "watchers") == 2, "who never reads")
            port = fed.sink.address.port
        for _ in pictures:  # ends in order
            pass
        assert last_words(wire) == {"ended": True}
        assert silent.recv(1) == b""
        silent.close()
        lazy.close()
        wire.close()
        watching.close()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("rtseg")]
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", port), timeout=5),
    ):
        pass


def test_only_this_machine_is_served_by_default(fed: Fed) -> None:
    listening = {
        connection.laddr.ip
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.port == fed.sink.address.port
    }
    assert listening == {"127.0.0.1"}


def test_a_port_in_use_is_one_clear_line(fed: Fed) -> None:
    sink = WebSink(fed.sink.address)
    with pytest.raises(SinkError) as caught:
        sink.open(context())
    assert caught.value.reason == "BUSY"
    assert str(fed.sink.address.port) in str(caught.value)
    assert "in use" in str(caught.value)
    sink.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(SinkError) as caught:
        WebSink(WebAddress(host, 0)).open(context())
    assert caught.value.reason == "NOT_FOUND"


def test_a_public_address_makes_a_token_and_says_it_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with WebSink(WebAddress("0.0.0.0", 0)) as sink:
        assert sink.token is not None
        sink.open(context())
        said = capsys.readouterr().err
        assert said.count(sink.token) == 1
        port = sink.address.port
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=WAIT_S).status_code == 401


def test_the_order_of_calls_is_minded() -> None:
    item = next(iter(rendered(1)))
    sink = WebSink(WebAddress("127.0.0.1", 0))
    sink.close()
    with pytest.raises(SinkError, match="between open and close"):
        sink.write(item)
    sink.open(context())
    sink.write(item)
    sink.idle()
    sink.close()
    sink.close()
    with pytest.raises(SinkError, match="between open and close"):
        sink.write(item)


def test_stderr_stays_the_run_s(fed: Fed, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", fed.sink.address.port)) as raw:
        raw.sendall(b"\x00\xff nonsense\r\n\r\n")
        raw.settimeout(WAIT_S)
        io.BytesIO(raw.recv(1000))
    with socket.create_connection(("127.0.0.1", fed.sink.address.port)) as raw:
        raw.sendall(b"GET /" + b"x" * 100_000)
    httpx.get(fed.url + "/state.json", timeout=WAIT_S)
    assert capfd.readouterr().err == ""
