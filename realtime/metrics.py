"""The run's counters for Prometheus, and whether it is well, over HTTP."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from rtseg.engines.versions import own_version
from rtseg.realtime.errors import RealtimeError
from rtseg.realtime.histogram import LatencyHistogram
from rtseg.realtime.profile import (
    END_OF_INPUT,
    MAX_FRAMES_REACHED,
    Profiler,
)
from rtseg.realtime.web.address import bracketed

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from rtseg.realtime.sinks.sink import Sink

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"

BOUNDS_MS = (0.5, 1, 2.5, 5, 10, 16, 25, 33, 50, 75, 100, 150, 250, 500, 1000, 2500, 10000)
"""Upper bounds of the histograms' buckets, in milliseconds."""

_REASONS = {
    errno.EADDRINUSE: "BUSY",
    errno.EACCES: "PERMISSION_DENIED",
    errno.EPERM: "PERMISSION_DENIED",
}
_REQUEST_S = 5.0
_POLL_S = 0.1

_Environ = dict[str, Any]
_StartResponse = Callable[..., Any]


class MetricsServer:
    """Serves ``/metrics``, ``/healthz`` and ``/readyz``; a context manager.

    ``/metrics`` is Prometheus' text (or OpenMetrics, for who asks for it), made anew for each
    request from the profilers, so that frames cost nothing more. ``/healthz`` answers while the
    process lives. ``/readyz`` is 200 while frames flow: the source gave one and one came out
    within the last ``stale_s`` seconds; otherwise 503, with the reason. Of several sources, all
    that have not come to their end must be so.

    Args:
        port: TCP port from 1 to 65535; 0 takes a free one, see :attr:`port`.
        profilers: the clocks and counters of each source, by name: the label ``source``.
        host: where to listen: this machine only, or an address of it that others reach.
        stale_s: seconds without a frame until the run counts as not ready.
        outputs: those whose own counts (:meth:`Sink.counts`) are served, too; may still grow.

    Raises:
        RealtimeError: the port is in use (``BUSY``) or not permitted (``PERMISSION_DENIED``), or
            the host is none of this machine's (``NOT_FOUND``).
    """

    def __init__(
        self,
        port: int,
        profilers: Mapping[str, Profiler],
        *,
        host: str = HOST,
        stale_s: float = 10.0,
        outputs: Sequence[Sink] = (),
    ) -> None:
        from prometheus_client import CollectorRegistry, make_wsgi_app

        self._profilers = dict(profilers)
        self._stale_s = stale_s
        registry = CollectorRegistry()
        registry.register(_Collector(self._profilers, outputs))
        self._metrics = make_wsgi_app(registry)
        try:
            server = _ServerV6 if ":" in host else _Server
            self._server = make_server(host, port, self._answer, server, _QuietHandler)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, "NOT_FOUND")
            why = "the port is in use" if reason == "BUSY" else error.strerror or str(error)
            shown = str(port) if host == HOST else f"{bracketed(host)}:{port}"
            raise RealtimeError(
                f"--metrics-port {shown}: {why.lower()}. Allowed: a free port of this machine",
                reason=reason,
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="rtseg-metrics"
        )
        self._thread.start()
        _log.info("metrics at http://%s:%d/metrics", bracketed(host), self.port)

    def close(self) -> None:
        """Stop serving. May be called more than once."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _text(start_response, "405 Method Not Allowed", "allowed: GET, HEAD")
        if path == "/healthz":
            return _text(start_response, "200 OK", "ok")
        if path == "/readyz":
            wrong = self._not_ready()
            status = "503 Service Unavailable" if wrong else "200 OK"
            return _text(start_response, status, wrong or "ready")
        return _text(start_response, "404 Not Found", "allowed: /metrics, /healthz, /readyz")

    def _not_ready(self) -> str | None:
        """Return why the run is not ready, or None when it is."""
        for name, profiler in self._profilers.items():
            why = self._why_not(profiler)
            if why is not None:
                return why if len(self._profilers) == 1 else f"{name}: {why}"
        return None

    def _why_not(self, profiler: Profiler) -> str | None:
        if profiler.ended is not None:
            well = profiler.ended in (END_OF_INPUT, MAX_FRAMES_REACHED)
            return None if well else f"it ended: {profiler.ended}"
        in_age_s = profiler.last_frame_age_s()
        out_age_s = profiler.last_output_age_s()
        if in_age_s is None or out_age_s is None:
            return "no frame yet"
        if in_age_s > self._stale_s:
            return f"no frame from the source for {in_age_s:.0f} s"
        if out_age_s > self._stale_s:
            return f"no frame came out for {out_age_s:.0f} s"
        return None


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a client that hangs must not keep the process


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = _REQUEST_S

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("metrics: " + format, *args)


class _Collector:
    """Reads the profilers when Prometheus asks."""

    def __init__(self, profilers: Mapping[str, Profiler], outputs: Sequence[Sink]) -> None:
        self._profilers, self._outputs = profilers, outputs

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        sources = self._profilers.items()
        yield InfoMetricFamily("rtseg", "The program.", value={"version": own_version()})
        for counter, text in (
            ("frames_in", "Frames that the source handed over."),
            ("frames_out", "Frames that reached the outputs."),
            ("frames_damaged", "Frames with data missing or damaged on the way."),
            ("reconnects", "Times a lost source came back."),
            ("stalls", "Times a source gave nothing for too long."),
        ):
            family = CounterMetricFamily(f"rtseg_{counter}", text, labels=["source"])
            for source, profiler in sources:
                family.add_metric([source], getattr(profiler, counter))
            yield family
        dropped = CounterMetricFamily(
            "rtseg_frames_dropped",
            "Frames that did not come out, by reason.",
            labels=["source", "reason"],
        )
        for source, profiler in sources:
            for reason, count in sorted(profiler.dropped.items()):
                dropped.add_metric([source, reason], count)
        yield dropped
        stages = HistogramMetricFamily(
            "rtseg_stage_seconds", "Time of a frame in each stage.", labels=["source", "stage"]
        )
        for source, profiler in sources:
            for stage, histogram in profiler.histograms().items():
                if histogram.count:
                    total_s = histogram.total_ms / 1e3
                    stages.add_metric([source, stage], _buckets(histogram), total_s)
        yield stages
        latency = HistogramMetricFamily(
            "rtseg_latency_seconds",
            "From the decoder's hand-over until every output has the frame.",
            labels=["source"],
        )
        for source, profiler in sources:
            histogram = profiler.latency_histogram()
            latency.add_metric([source], _buckets(histogram), histogram.total_ms / 1e3)
        yield latency
        ages = GaugeMetricFamily(
            "rtseg_last_frame_age_seconds",
            "Time since the source handed its newest frame over.",
            labels=["source"],
        )
        for source, profiler in sources:
            age_s = profiler.last_frame_age_s()
            if age_s is not None:
                ages.add_metric([source], age_s)
        if ages.samples:
            yield ages
        yield from self._of_outputs()

    def _of_outputs(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily

        sent = CounterMetricFamily(
            "rtseg_output_pictures", "Pictures that a network output sent.", labels=["output"]
        )
        dropped = CounterMetricFamily(
            "rtseg_output_dropped",
            "Pictures that a network output left out, by reason.",
            labels=["output", "reason"],
        )
        connections = CounterMetricFamily(
            "rtseg_output_connections", "Times a receiver was connected.", labels=["output"]
        )
        seen: dict[str, int] = {}
        for output in list(self._outputs):
            counts = output.counts()
            if counts is None:
                continue
            # Prometheus refuses a page that gives one series twice.
            number = seen[output.name] = seen.get(output.name, 0) + 1
            name = output.name if number == 1 else f"{output.name} #{number}"
            sent.add_metric([name], counts.sent)
            connections.add_metric([name], counts.connections)
            for reason, count in sorted(counts.dropped.items()):
                dropped.add_metric([name, reason], count)
        yield from (family for family in (sent, dropped, connections) if family.samples)


def _buckets(histogram: LatencyHistogram) -> list[tuple[str, float]]:
    counts = histogram.at_most(BOUNDS_MS)
    buckets = [
        (str(bound_ms / 1e3), float(count))
        for bound_ms, count in zip(BOUNDS_MS, counts, strict=True)
    ]
    return [*buckets, ("+Inf", float(histogram.count))]


def _text(start_response: _StartResponse, status: str, text: str) -> list[bytes]:
    body = (text + "\n").encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
