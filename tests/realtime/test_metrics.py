"""Prometheus reads a run: scraped over HTTP and read with Prometheus' own parser."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from rtseg.realtime.cli import main
from rtseg.realtime.errors import RealtimeError
from rtseg.realtime.frame import now_ns
from rtseg.realtime.metrics import BOUNDS_MS, MetricsServer
from rtseg.realtime.profile import LatencyHistogram, Profiler
from rtseg.realtime.sinks.network import parse_network
from rtseg.realtime.sinks.null import NullSink
from rtseg.realtime.sinks.publisher import NetworkSink
from tests.realtime.sinks.parts import context, rendered

COMMAND = [sys.executable, "-c", "from rtseg.realtime.cli import command; command()"]


SOURCE = "drive"


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


def scrape(port: int) -> dict[str, Metric]:
    status, text = get(port, "/metrics")
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], name: str, source: str = SOURCE, **labels: str) -> float:
    labels["source"] = source
    family = next(f for n, f in families.items() if name.startswith(n))
    found = [s.value for s in family.samples if s.name == name and s.labels == labels]
    assert len(found) == 1, (name, labels)
    return float(found[0])


def frame_out(profiler: Profiler, index: int, latency_ms: float) -> None:
    now = now_ns()
    profiler.frame_in(now - int(latency_ms * 1e6))
    profiler.frame_out(
        index=index,
        pts_s=0.0,
        captured_ns=now - int(latency_ms * 1e6),
        presented_ns=now,
        stages_ms={"decode": 2.0, "infer": latency_ms / 2},
    )


@pytest.fixture
def profiler() -> Profiler:
    return Profiler()


@pytest.fixture
def server(profiler: Profiler) -> Iterator[MetricsServer]:
    with MetricsServer(0, {SOURCE: profiler}, stale_s=60) as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_counters_and_histograms(profiler: Profiler, server: MetricsServer) -> None:
    for index, latency_ms in enumerate((4.0, 40.0, 400.0)):
        frame_out(profiler, index, latency_ms)
    profiler.frame_in(now_ns())
    profiler.drop("newer_frame")
    profiler.drop("stride", 2)
    profiler.stall()
    profiler.reconnect()
    profiler.reconnect()
    families = scrape(server.port)
    assert value(families, "rtseg_frames_in_total") == 4
    assert value(families, "rtseg_frames_out_total") == 3
    assert value(families, "rtseg_frames_dropped_total", reason="newer_frame") == 1
    assert value(families, "rtseg_frames_dropped_total", reason="stride") == 2
    assert value(families, "rtseg_stalls_total") == 1
    assert value(families, "rtseg_reconnects_total") == 2
    assert 0 <= value(families, "rtseg_last_frame_age_seconds") < 60
    assert value(families, "rtseg_stage_seconds_count", stage="decode") == 3
    assert value(families, "rtseg_stage_seconds_sum", stage="decode") == pytest.approx(0.006)
    for bound, count in (("0.001", 0), ("0.005", 1), ("0.05", 2), ("0.25", 2), ("0.5", 3)):
        assert value(families, "rtseg_latency_seconds_bucket", le=bound) == count
    assert value(families, "rtseg_latency_seconds_bucket", le="+Inf") == 3


def test_what_a_network_output_leaves_out_is_told(profiler: Profiler) -> None:
    """Nobody listens at its address; outputs that count nothing are not named."""
    port, files = free_port(), NullSink()
    sink = NetworkSink(parse_network(f"rtsp://user:s3cret@127.0.0.1:{port}/live"))
    with MetricsServer(0, {SOURCE: profiler}, outputs=[files, sink]) as server:
        sink.open(context((64, 48), live=True))
        for item in rendered(10, (64, 48)):
            sink.write(item)
        sink.close()
        families = scrape(server.port)
    counts = sink.counts()
    assert sum(counts.dropped.values()) >= 8
    said = {
        (sample.name, sample.labels.get("reason")): sample.value
        for name in families
        for sample in families[name].samples
        if sample.labels.get("output") == f"rtsp://***@127.0.0.1:{port}/live"
    }
    for reason, count in counts.dropped.items():
        assert said.pop(("rtseg_output_dropped_total", reason)) == count
    assert said == {
        ("rtseg_output_pictures_total", None): counts.sent,
        ("rtseg_output_connections_total", None): 0,
    }
    names = {s.labels.get("output") for name in families for s in families[name].samples}
    assert files.name not in names


def test_two_outputs_to_one_server_are_two_series(profiler: Profiler) -> None:
    address = f"rtsp://127.0.0.1:{free_port()}/live"
    sinks = [NetworkSink(parse_network(address)) for _ in range(2)]
    with MetricsServer(0, {SOURCE: profiler}, outputs=sinks) as server:
        for sink in sinks:
            sink.open(context((64, 48), live=True))
            sink.close()
        families = scrape(server.port)
    samples = families["rtseg_output_pictures"].samples
    assert [sample.labels["output"] for sample in samples] == [address, f"{address} #2"]


def test_buckets_only_grow_and_end_with_all() -> None:
    histogram = LatencyHistogram()
    for step in range(2000):
        histogram.add(1.01**step / 1000)
    counts = histogram.at_most(BOUNDS_MS)
    assert counts == sorted(counts)
    for bound_ms, count in zip(BOUNDS_MS, counts, strict=True):
        least = sum(1.01**step / 1000 <= bound_ms for step in range(2000))
        assert least <= count <= least + 1  # a bucket of 0.5 % may hold one just above
    assert histogram.at_most([1e9]) == [2000]
    assert histogram.copy().summary() == histogram.summary()


def test_a_run_that_has_not_begun_is_alive_but_not_ready(
    profiler: Profiler, server: MetricsServer
) -> None:
    assert get(server.port, "/healthz") == (200, "ok\n")
    assert get(server.port, "/readyz") == (503, "no frame yet\n")
    frame_out(profiler, 0, 1.0)
    assert get(server.port, "/readyz") == (200, "ready\n")
    assert get(server.port, "/../etc/passwd")[0] == 404
    assert "rtseg_last_frame_age_seconds" in scrape(server.port)


def test_a_source_that_gives_nothing_is_not_ready(profiler: Profiler) -> None:
    with MetricsServer(0, {SOURCE: profiler}, stale_s=0.2) as server:
        frame_out(profiler, 0, 1.0)
        time.sleep(0.4)
        status, why = get(server.port, "/readyz")
        assert (status, why) == (503, "no frame from the source for 0 s\n")
        profiler.frame_in(now_ns() + 10**10)  # frames come in, none comes out
        assert get(server.port, "/readyz")[1].startswith("no frame came out for")


def test_only_this_machine_is_served(server: MetricsServer) -> None:
    listening = [
        connection.laddr.ip
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == server.port
    ]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_other_machines_are_served_where_that_is_asked_for(
    profiler: Profiler, host: str, reached: str
) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("needs IPv6")
    with MetricsServer(0, {SOURCE: profiler}, host=host) as server:
        listening = {
            connection.laddr.ip
            for connection in psutil.Process().net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == server.port
        }
        assert listening == {host}
        with urllib.request.urlopen(f"http://{reached}:{server.port}/healthz", timeout=20) as said:
            assert said.read() == b"ok\n"


def test_a_host_of_another_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["testsrc", "null", "--max-frames", "1", "--metrics-port", "192.0.2.1:9464"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "error: NOT_FOUND: --metrics-port 192.0.2.1:9464: cannot assign" in said
    assert said.count("\n") == 1


def test_a_client_that_says_nothing_holds_nobody(profiler: Profiler) -> None:
    before = threading.active_count()
    with (
        MetricsServer(0, {SOURCE: profiler}) as server,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        scrape(server.port)
    assert not [t for t in threading.enumerate() if t.name == "rtseg-metrics"]
    assert threading.active_count() <= before + 1  # the silent client's, which does not count


def test_a_port_in_use_is_one_line(
    server: MetricsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RealtimeError) as caught:
        MetricsServer(server.port, {})
    assert caught.value.reason == "BUSY"
    words = ["--source", "testsrc", "--out", "null", "--metrics-port", str(server.port)]
    assert main(words) == 1
    said = capsys.readouterr().err.strip()
    assert said == (
        f"rt-seg: error: BUSY: --metrics-port {server.port}: the port is in use. "
        "Allowed: a free port of this machine"
    )


@pytest.mark.parametrize(
    "wrong", ["0", "-1", "65536", "http", "::1:80", "h:", "u:secret@h:80", "0.0.0.0:0", "h:80/x"]
)
def test_impossible_ports_are_usage_errors(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", "testsrc", "--out", "null", f"--metrics-port={wrong}"]) == 2
    assert "secret" not in capsys.readouterr().err


def test_a_real_run_is_scraped(tmp_path: Path) -> None:
    port = free_port()
    words = ["--source", "testsrc", "--out", "null", "--metrics-port", str(port), "-q"]
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    try:
        deadline_s = time.monotonic() + 120
        ready = False
        while not ready:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
            try:
                ready = get(port, "/readyz")[0] == 200
            except OSError:
                continue
        first = value(scrape(port), "rtseg_frames_out_total", "testsrc")
        while value(families := scrape(port), "rtseg_frames_out_total", "testsrc") <= first:
            assert time.monotonic() < deadline_s
        for stage in ("decode", "preprocess", "infer", "encode"):
            assert value(families, "rtseg_stage_seconds_count", "testsrc", stage=stage) > 0
        assert value(families, "rtseg_frames_in_total", "testsrc") >= first
        process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "Traceback" not in said
