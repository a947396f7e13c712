"""``rt-seg --out web`` as people type it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from rtseg.realtime.cli import main

COMMAND = [sys.executable, "-c", "from rtseg.realtime.cli import command; command()"]
WAIT_S = 120.0


@contextmanager
def running(*words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until it says where its page is; yield process and address."""
    process = subprocess.Popen(
        [*COMMAND, "--source", "testsrc", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    hurry = threading.Timer(WAIT_S, process.kill)
    hurry.start()
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"live page: (http://\S+)", line):
                yield process, found[1]
                return
        raise AssertionError(said)
    finally:
        hurry.cancel()
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def last_words(wire: ClientConnection) -> dict[str, object]:
    """Return the last message before the connection ends."""
    last: dict[str, object] = {}
    while True:
        try:
            last = json.loads(wire.recv(timeout=WAIT_S))
        except ConnectionClosed:
            return last


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_the_run_while_people_watch(number: signal.Signals, code: int) -> None:
    with (
        running("--out", "web:0") as (process, url),
        connect(url.replace("http", "ws") + "ws", open_timeout=WAIT_S) as wire,
        httpx.stream("GET", url + "stream.mjpg", timeout=WAIT_S) as video,
    ):
        pictures = video.iter_raw()
        next(pictures)
        process.send_signal(number)
        for _ in pictures:
            pass
        assert last_words(wire) == {"ended": True}
        assert process.wait(WAIT_S) == code
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_the_page_ends_the_run() -> None:
    with running("--out", "web:0") as (process, url):
        with connect(url.replace("http", "ws") + "ws", open_timeout=WAIT_S) as wire:
            wire.send('{"key": "q"}')
            assert last_words(wire) == {"ended": True}
        assert process.wait(WAIT_S) == 0


def test_a_made_token_is_said_even_when_quiet() -> None:
    with running("--out", "http://0.0.0.0:0", "-q") as (_, url):
        token = url.split("?token=")[1]
        here = url.split("?")[0].replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(here, timeout=WAIT_S).status_code == 401
        assert httpx.get(here, params={"token": token}, timeout=WAIT_S).status_code == 200


def test_a_given_token_is_not_said() -> None:
    token = "from-the-environment"
    with running("--out", "web:0", RTSEG_WEB_TOKEN=token) as (_, url):
        assert token not in url
        assert httpx.get(url, timeout=WAIT_S).status_code == 401
        known = {"authorization": f"Bearer {token}"}
        state = httpx.get(url + "state.json", headers=known, timeout=WAIT_S).json()
        assert state["about"]["source"] == "testsrc"


def test_several_sources_have_their_health() -> None:
    with running("--source", "lavfi:color=c=gray:size=320x192:rate=10", "--out", "web:0") as (
        _,
        url,
    ):
        streams = httpx.get(url + "state.json", timeout=WAIT_S).json()["numbers"]["streams"]
        assert len(streams) == 2
        assert {"name", "state", "age_s", "frames", "reconnects", "stalls"} <= set(streams[0])


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--source", "testsrc", "--out", f"web:{port}"]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert said == [
        f"rt-seg: error: BUSY: live page at http://127.0.0.1:{port}/: the port is in use. Allowed: "
        "web:PORT with a free port, or http://HOST:PORT with an address of this machine"
    ]


def test_a_short_token_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", "testsrc", "--out", "web:0", "--web-token", "secret7"]) == 2
    assert "secret7" not in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['uvicorn'] = None\n"
        "from rtseg.realtime.cli import main\n"
        "sys.exit(main(['--source', 'testsrc', '--out', 'web:0']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "rt-seg: error: NOT_INSTALLED: the live page needs uvicorn: pip install rt-seg[web]"
    ]
