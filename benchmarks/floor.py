"""What each step of the loop costs alone, and the throughput of a loop that adds nothing.

Every step runs by itself, with plain calls of the libraries, on the same clip with the same
parameters as in ``rt-seg``: decode, scale to the network's input, the network up to its small
scores, upsampling with argmax, blending in the Y, U and V planes, encoding and writing. A
step's figure is CPU time a frame: of the whole process, all threads. A perfect loop would keep
every core busy with nothing else: frames/s = cores x 1000 / sum.

    python benchmarks/floor.py [--clip FILE] [--runs 5] [--precision int8] [--json FILE]

``benchmarks/loop.py`` measures this and ``rt-seg`` in turn and prints the ratio.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from common import clip_or_generated, machine, median_and_spread, shipped_file
from numpy.typing import NDArray

from rtseg.engines.graph import FRAMES, SCORES
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.openvino_compile import compile_network
from rtseg.engines.openvino_network import read_network
from rtseg.engines.preprocess import INTERPOLATION
from rtseg.engines.threads import available_cores, engine_threads
from rtseg.engines.upsample import LabelUpsampler
from rtseg.realtime.nearest import NearestGrid
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.video import FORMATS
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.yuv import colour_tags, colours_to_yuv, planes_420

U8 = NDArray[np.uint8]

STEPS = ("decode", "scale", "network", "upsample", "blend", "encode")
"""The steps, in the order of a frame's way."""

SOME = 48
"""Frames of the clip that the steps after decoding work on; they are kept in memory."""


class Floor:
    """The steps of the loop on one clip, each ready to be run alone.

    Args:
        clip: a video file.
        precision: as ``rt-seg --precision``; None for the shipped network's fastest.
        size: width and height of the network's input; None for the default.
        model: an ONNX file instead of a shipped network, or None.
    """

    def __init__(
        self,
        clip: Path,
        precision: str | None = None,
        size: tuple[int, int] | None = None,
        model: Path | None = None,
    ) -> None:
        self.clip = clip
        self.file = model or shipped_file(precision, size)
        frames = list(itertools.islice(decoded(clip, SourceOptions().threads), SOME))
        self._frames = frames
        self._requests, self._upsampler, (height, width), self.about = open_network(
            self.file, precision
        )
        self._size = (width, height)
        scaler = VideoReformatter()
        self._inputs = [pixels_of(self._scaled(scaler, frame)) for frame in frames]
        self._scores = [self._infer(image) for image in self._inputs]
        self._labels = [np.empty((height, width), np.uint8) for _ in frames]
        for scores, labels in zip(self._scores, self._labels, strict=True):
            self._upsampler.labels(scores, labels)
        self._blend = Blend(frames[0], (height, width))
        self._pictures = []
        for frame, labels in zip(frames, self._labels, strict=True):
            picture = av.VideoFrame(frame.width, frame.height, "yuv420p")
            self._blend.into(planes_420(picture), frame, labels)
            self._pictures.append(picture)

    def measure(self, seconds: float) -> dict[str, float]:
        """Return each step's CPU time a frame in milliseconds; each runs for ``seconds``."""
        return {step: getattr(self, step)(seconds) for step in STEPS}

    def decode(self, seconds: float) -> float:
        """Read and decode, over and over."""
        clock = Clock(seconds)
        while clock.goes_on():
            for _ in decoded(self.clip, SourceOptions().threads):
                clock.frames += 1
        return clock.cpu_ms()

    def scale(self, seconds: float) -> float:
        """One swscale pass from the decoder's picture to the network's RGB."""
        scaler = VideoReformatter()
        clock = Clock(seconds)
        for frame in itertools.cycle(self._frames):
            if not clock.goes_on():
                return clock.cpu_ms()
            self._scaled(scaler, frame)
            clock.frames += 1
        raise AssertionError

    def network(self, seconds: float) -> float:
        """The network to its scores at a fraction of the size, all requests in flight."""
        idle = list(self._requests)
        for request, image in zip(idle, self._inputs, strict=False):
            request.set_input_tensor(_tensor(image))
        running: list[Any] = []
        images = itertools.cycle(self._inputs)
        clock = Clock(seconds)
        while clock.goes_on():
            if idle:
                request = idle.pop()
            else:
                request = running.pop(0)
                request.wait()
                clock.frames += 1
            request.set_input_tensor(_tensor(next(images)))
            request.start_async()
            running.append(request)
        for request in running:
            request.wait()
            clock.frames += 1
        return clock.cpu_ms()

    def upsample(self, seconds: float) -> float:
        """Class ids at the network's size from its scores."""
        out = np.empty_like(self._labels[0])
        clock = Clock(seconds)
        for scores in itertools.cycle(self._scores):
            if not clock.goes_on():
                return clock.cpu_ms()
            self._upsampler.labels(scores, out)
            clock.frames += 1
        raise AssertionError

    def blend(self, seconds: float) -> float:
        """Enlarge the class ids' colours and blend them, into the same picture each time."""
        picture = av.VideoFrame(self._frames[0].width, self._frames[0].height, "yuv420p")
        target = planes_420(picture)
        clock = Clock(seconds)
        for frame, labels in itertools.cycle(zip(self._frames, self._labels, strict=True)):
            if not clock.goes_on():
                return clock.cpu_ms()
            self._blend.into(target, frame, labels)
            clock.frames += 1
        raise AssertionError

    def encode(self, seconds: float) -> float:
        """Encode overlays and write them into an mp4 as ``rt-seg`` does, without sound."""
        options = EncodeOptions()
        name, container_options = FORMATS[".mp4"]
        clock = Clock(seconds)
        with tempfile.TemporaryDirectory() as folder:
            with av.open(
                f"{folder}/seg.mp4", "w", format=name, container_options=container_options
            ) as container:
                stream: Any = container.add_stream(
                    options.resolved.encoder, rate=30, options=options.encoder_options()
                )
                stream.width, stream.height = self._pictures[0].width, self._pictures[0].height
                stream.pix_fmt = "yuv420p"
                stream.codec_context.gop_size = round(30 * options.keyframe_s)
                stream.codec_context.thread_count = options.threads
                for index, picture in enumerate(_there_and_back(self._pictures)):
                    if not clock.goes_on():
                        break
                    picture.pts, picture.time_base = index, Fraction(1, 30)
                    container.mux(stream.encode(picture))
                    clock.frames += 1
                container.mux(stream.encode(None))
            return clock.cpu_ms()

    def _scaled(self, scaler: VideoReformatter, frame: av.VideoFrame) -> av.VideoFrame:
        width, height = self._size
        return scaler.reformat(
            frame, width, height, "rgb24", interpolation=INTERPOLATION, threads=1
        )

    def _infer(self, image: U8) -> NDArray[np.float32]:
        request = self._requests[0]
        request.set_input_tensor(_tensor(image))
        request.start_async()
        request.wait()
        scores: NDArray[np.float32] = request.get_tensor(SCORES).data[0].copy()
        return scores


class Clock:
    """CPU time of the whole process since it was made, and a limit in wall time."""

    def __init__(self, seconds: float) -> None:
        self.frames = 0
        self._end_s = time.perf_counter() + seconds
        self._begin_cpu_s = time.process_time()

    def goes_on(self) -> bool:
        """Return whether there is time left."""
        return time.perf_counter() < self._end_s

    def cpu_ms(self) -> float:
        """Return the CPU time a frame in milliseconds."""
        return (time.process_time() - self._begin_cpu_s) * 1e3 / max(1, self.frames)


class Blend:
    """Colours over the planes of frames of one size, with nothing that a view might ask for."""

    def __init__(self, frame: av.VideoFrame, labels: tuple[int, int], alpha: float = 0.5) -> None:
        colours = np.zeros((256, 3), np.uint8)
        palette = np.array(CITYSCAPES.palette, np.uint8)
        colours[: len(palette)] = colours_to_yuv(palette, colour_tags(frame))
        self._tables = [np.ascontiguousarray(colours[:, index]) for index in range(3)]
        shapes = [plane.shape for plane in planes_420(frame)]
        grids = {shape: NearestGrid(labels, (shape[0], shape[1])) for shape in set(shapes)}
        self._grids = [grids[shape] for shape in shapes]
        self._alpha = alpha

    def into(self, target: Sequence[U8], frame: av.VideoFrame, labels: U8) -> None:
        """Fill the planes ``target``."""
        import cv2

        small: dict[int, U8] = {}
        parts = zip(target, planes_420(frame), self._tables, self._grids, strict=True)
        for out, source, table, grid in parts:
            if grid.grows:
                colour = grid.scale(cv2.LUT(labels, table))
            else:  # both chroma planes take their colours from the same few ids
                if id(grid) not in small:
                    small[id(grid)] = grid.scale(labels)
                colour = cv2.LUT(small[id(grid)], table)
            cv2.addWeighted(source, 1 - self._alpha, colour, self._alpha, 0, dst=out)


def decoded(clip: Path, threads: int) -> Iterator[av.VideoFrame]:
    """Yield the clip's frames; every stream is read, as for a file that keeps its sound."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = threads
        video.codec_context.thread_type = "AUTO"
        for packet in container.demux(video, *container.streams.audio):
            if packet.stream.index == video.index:
                yield from video.codec_context.decode(packet if packet.size else None)
            if packet.stream.index == video.index and not packet.size:
                return


def pixels_of(frame: av.VideoFrame) -> U8:
    """Return a packed RGB frame as a network's input, uint8 1×H×W×3."""
    return np.ascontiguousarray(frame.to_ndarray())[None]


def open_network(
    file: Path, precision: str | None
) -> tuple[list[Any], LabelUpsampler, tuple[int, int], str]:
    """Compile a network for throughput; return requests, upsampler, height and width, words.

    Raises:
        SystemExit: the network does not end in an upsampling that can be taken off.
    """
    import openvino

    core = openvino.Core()
    # As the engine gives it to OpenVINO: the loop is judged, not the network.
    read = read_network(core, file)
    if read.upsampler is None:
        raise SystemExit(f"{file.name} does not end in Resize, ArgMax, Cast")
    threads = engine_threads(available_cores())
    config = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = compile_network(core, read, file, config, precision, None)
    lanes = int(compiled.get_property("NUM_STREAMS"))
    requests = [compiled.create_infer_request() for _ in range(lanes + 2)]
    assert FRAMES in compiled.inputs[0].get_names()
    spec = read.adapted.spec
    about = (
        f"{file.name}, {precision or spec.precision}, {threads} threads, {lanes} at once, "
        f"{len(requests)} requests"
    )
    return requests, read.upsampler, (spec.height, spec.width), about


def _tensor(image: U8) -> Any:
    import openvino

    return openvino.Tensor(image, shared_memory=True)


def _there_and_back(pictures: Sequence[Any]) -> Iterator[Any]:
    """Yield pictures for ever without a jump, which would cost the encoder more."""
    while True:
        yield from pictures
        yield from reversed(pictures[1:-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", help="a video (default: the 720p clip of the test data)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each step, each run")
    parser.add_argument("--precision", help="as rt-seg's")
    parser.add_argument("--json", type=Path, help="the figures, for other programs")
    options = parser.parse_args()
    with clip_or_generated(options.clip) as clip:
        floor = Floor(clip, options.precision)
        runs = [floor.measure(options.seconds) for _ in range(options.runs)]
    print(f"machine   {machine()}")
    print(f"clip      {clip.name}; {options.runs} runs, median (least – most)")
    print(f"network   {floor.about}")
    print_floor(runs)
    if options.json:
        figures = {"machine": machine(), "clip": clip.name, "network": floor.about, "runs": runs}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def print_floor(runs: Sequence[dict[str, float]]) -> None:
    """Print the steps of several runs, their sum, and what a perfect loop would reach."""
    print("step        CPU-ms a frame")
    for step in STEPS:
        print(f"{step:10}  {median_and_spread([run[step] for run in runs], 2)}")
    sums = [sum(run.values()) for run in runs]
    print(f"{'sum':10}  {median_and_spread(sums, 2)}")
    perfect = [available_cores() * 1e3 / total for total in sums]
    print(f"perfect loop: {median_and_spread(perfect)} frames/s on {available_cores()} cores")


if __name__ == "__main__":
    main()
