"""Does the loop keep up with a camera: drops and latency on a stream of 30 frames a second.

A process of its own plays the clip as an MPEG-TS stream over UDP in real time, as a network
camera would; ``rt-seg`` reads it as any live source and writes an overlay mp4. End-to-end
latency runs from the decoder's hand-over until the encoder has the frame.

While the network loads, frames pile up in the stream; they are dropped at the start, as they must
be, and are counted apart: ``dropped`` is what was lost once the loop ran.

    python benchmarks/camera.py [--clip FILE] [--frames 560] [--fps 30] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from common import clip_or_generated, machine, median_and_spread, run_loop

from rtseg.realtime.histogram import nearest_rank

SETTLING = 30
"""Frames at the start that are left out."""


def play(clip: str, url: str, fps: float) -> None:
    """Send the clip's video over and over, each packet at its time."""
    import av

    tick = Fraction(1, 90_000)
    step = round(90_000 / fps)
    with av.open(url, "w", format="mpegts") as stream, av.open(clip) as source:
        video = source.streams.video[0]
        target = stream.add_stream_from_template(video)
        begin_s, sent = time.monotonic(), 0
        while True:
            source.seek(0)
            packets = [p for p in source.demux(video) if p.dts is not None and p.pts is not None]
            shown = sorted(packet.pts for packet in packets)
            first = sent
            for packet in packets:
                packet.pts = (first + shown.index(packet.pts) + 2) * step
                packet.dts = sent * step
                packet.time_base = tick
                packet.stream = target
                time.sleep(max(0.0, begin_s + sent / fps - time.monotonic()))
                stream.mux(packet)
                sent += 1


def free_port() -> int:
    """Return a UDP port nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip")
    parser.add_argument(
        "--frames", type=int, default=560, help="(%(default)s; at most 600 are known one by one)"
    )
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="the figures, for other programs")
    parser.add_argument("rest", nargs="*", help="options passed on to rt-seg, after --")
    options = parser.parse_args()
    reports = []
    with clip_or_generated(options.clip) as clip, tempfile.TemporaryDirectory() as folder:
        for _ in range(options.runs):
            port = free_port()

            @contextmanager
            def camera(port: int = port, clip: Path = clip) -> Iterator[None]:
                url = f"udp://127.0.0.1:{port}?pkt_size=1316"
                player = multiprocessing.get_context("spawn").Process(
                    target=play, args=(str(clip), url, options.fps), daemon=True
                )
                player.start()
                try:
                    yield
                finally:
                    player.terminate()
                    player.join()

            reports.append(
                run_loop(
                    [
                        *("--source", f"udp://127.0.0.1:{port}?fifo_size=50000", "-y"),
                        *("--out", f"{folder}/seg.mp4", "--max-frames", str(options.frames)),
                        *("--timeout", "30", *options.rest),
                    ],
                    beside=camera,
                )
            )
    print(f"machine   {machine()}")
    print(
        f"clip      {clip.name} at {options.fps:g} frames/s over UDP, "
        f"{reports[0]['environment']['source_size']}; {options.runs} runs, "
        f"{options.frames} frames each"
    )
    environment = reports[0]["environment"]
    print(f"engine    {environment['network']} {environment['input']} {environment['precision']}")
    settled = [report["recent"][SETTLING:] for report in reports]
    lost = [frames[-1]["index"] - frames[0]["index"] + 1 - len(frames) for frames in settled]
    print(
        f"dropped   {', '.join(f'{n} of {n + len(f)}' for n, f in zip(lost, settled, strict=True))}"
    )
    earlier = [sum(r["dropped"].values()) - n for r, n in zip(reports, lost, strict=True)]
    print(f"at start  {', '.join(str(count) for count in earlier)} dropped")
    for percent in (50, 95, 99, 100):
        values = [nearest_rank(sorted(f["latency_ms"] for f in run), percent) for run in settled]
        print(f"{f'p{percent}, ms':9} {median_and_spread(values)}")
    print(f"rate      {median_and_spread([r['throughput_fps'] for r in reports])} frames/s")
    print(f"CPU       {median_and_spread([r['cpu_ms_per_frame'] for r in reports])} ms a frame")
    print(f"cores     {median_and_spread([r['cores_busy'] for r in reports], 2)} busy")
    if options.json:
        for report in reports:
            report.pop("recent", None)
        record = {"machine": machine(), "clip": clip.name, "runs": reports}
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
