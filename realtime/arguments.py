"""The command line of ``rt-seg``: what may be typed. Imports nothing heavy."""

from __future__ import annotations

import argparse

from rtseg.realtime.argument_values import (
    alpha,
    file_name,
    input_size,
    listen_address,
    number,
    reconnect,
    seconds,
)
from rtseg.realtime.parser import Once, Parser, ShowVersions
from rtseg.realtime.source_arguments import add_source_options

DESCRIPTION = """\
Segment live video of streets: camera, stream or file in, coloured video, class ids or a
window out, and the latency of every frame."""

EPILOG = """\
examples:
  rt-seg --source camera0                          a window with the overlay; q quits
  rt-seg --source drive.mp4 --out seg.mp4          sound, timestamps and rotation kept
  rt-seg drive.mp4 seg.mp4 --view side-by-side --legend
  rt-seg --source rtsp://host/stream --out window --hud --out seg.mkv
  rt-seg --source 'frames/*.png' --labels-out ids/ class ids, one PNG a frame
  rt-seg --source rtsp://door/live --source camera0 --out window --layout grid
  rt-seg drive.mp4 shared.mp4 --view input --redact person,rider --no-audio
  rt-seg --source camera0 --out '%Y%m%d-%H%M%S.mp4' --segment 1m --segment-files 120 -y

sources:  0, camera0, /dev/video0, /dev/v4l/by-id/NAME; rtsp:// rtsps:// rtmp://
          http(s):// udp:// tcp://; a file; a directory, quoted glob or frame_%06d.png; - for
          stdin; screen, screen:1; testsrc, lavfi:GRAPH; a list: FILE.txt, FILE.streams
outputs:  seg.mp4 .mkv .mov; a directory; frame_%06d.png; window; null; web,
          web:PORT, http://HOST:PORT (live page); rtsp[s]://HOST/PATH
          rtmp[s]://HOST/APP/KEY udp://HOST:PORT (sent with low latency)
keys:     q or Esc quit, space pause, . step, Tab view, h HUD, l legend, + and - alpha,
          s snapshot
exit:     0 end of input or quit, 1 run-time failure, 2 usage, 130 Ctrl-C, 143 SIGTERM,
          129 closed terminal"""


def build_parser() -> Parser:
    """Return the parser of ``rt-seg``."""
    parser = Parser(
        prog="rt-seg",
        usage="rt-seg --source S... [--out O]... [options], or rt-seg S [O] [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("positional", nargs="*", metavar="SOURCE [OUT]", help=argparse.SUPPRESS)
    parser.add_argument("--version", action=ShowVersions)
    _add_input(parser)
    _add_engine(parser)
    _add_view(parser)
    _add_flow(parser)
    _add_encode(parser)
    _add_run(parser)
    return parser


def _add_input(parser: Parser) -> None:
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "--source",
        action="append",
        metavar="S",
        help="what to segment; repeatable, and a .txt or .streams file lists several",
    )
    group.add_argument(
        "--out", action="append", default=[], metavar="O", help="where it goes; repeatable"
    )
    group.add_argument(
        "--web-token",
        metavar="TOKEN",
        help="what visitors of --out web must know; made and printed where other machines can "
        "reach the page (also taken from RTSEG_WEB_TOKEN)",
    )
    group.add_argument(
        "--layout",
        choices=("grid", "separate"),
        help="of several sources: all in one picture, or files of its own for each in a "
        "directory (default: separate for --out DIR and null, otherwise grid)",
    )
    group.add_argument(
        "--segment",
        action=Once,
        type=seconds,
        metavar="60s|10m",
        help="cut video files into files of this length: seg_000.mp4, seg_001.mp4, ...; "
        "--out takes %%03d and strftime patterns",
    )
    group.add_argument(
        "--segment-files",
        type=number(int, 2),
        metavar="N",
        help="keep the newest N of them, delete the oldest (default: all)",
    )
    group.add_argument(
        "--record",
        action=Once,
        type=file_name,
        metavar="FILE|DIR",
        help="the pictures as they came, with the sound, beside the outputs; a directory for "
        "several sources",
    )
    group.add_argument(
        "--labels-out",
        action=Once,
        type=file_name,
        metavar="DIR|FILE.mkv",
        help="class ids without loss: PNGs or gray video",
    )
    group.add_argument(
        "--label-ids",
        choices=("train", "cityscapes"),
        default="train",
        help="ids in --labels-out: trainIds (default) or the data set's own",
    )
    group.add_argument(
        "--jsonl",
        action=Once,
        type=file_name,
        metavar="FILE|-",
        help="one line a frame: time, class shares, stage times; -: on standard output",
    )
    group.add_argument(
        "--batch",
        action="store_true",
        help="each video file by itself, one after the other: --source takes folders, patterns "
        "and lists of them, names of outputs take {stem}",
    )
    group.add_argument(
        "--skip-existing",
        action="store_true",
        help="with --batch: leave out clips whose outputs are there and whole",
    )
    group.add_argument("-y", "--overwrite", action="store_true", help="replace existing files")


def _add_engine(parser: Parser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument("--model", metavar="NAME", help="a shipped network (espnet-lite)")
    group.add_argument("--engine", metavar="FILE", help="an engine file, or any ONNX network")
    group.add_argument(
        "--backend",
        choices=("auto", "openvino", "onnxruntime", "tensorrt", "rtx"),
        default="auto",
        help="what runs it (default: the best that is there)",
    )
    group.add_argument(
        "--device", default="auto", metavar="D", help="cpu, or cuda:0 (default: the backend's)"
    )
    group.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16", "int8"), help="default: the fastest there"
    )
    group.add_argument(
        "--quality",
        choices=("fast", "balanced", "best", "auto"),
        help="input size of the shipped network (default: balanced); auto: the best that keeps up "
        "with the source, found by a short trial",
    )
    group.add_argument(
        "--input-size",
        type=input_size,
        metavar="WxH",
        help="of the network, instead of a quality: multiples of 32 for those that ship",
    )
    group.add_argument(
        "--keyframes",
        type=number(int, 1, 30),
        default=1,
        metavar="N",
        help="run the network on each n-th frame only and move its labels along in between: "
        "faster, less exact (default: 1, on every frame)",
    )
    group.add_argument(
        "--threads", type=number(int, 0, 1024), default=0, metavar="N", help="0: from the cores"
    )
    group.add_argument(
        "--warmup",
        type=number(int, 0),
        default=2,
        metavar="N",
        help="runs before the first frame (2)",
    )


def _add_view(parser: Parser) -> None:
    group = parser.add_argument_group("view")
    group.add_argument(
        "--view",
        action=Once,
        choices=("overlay", "mask", "side-by-side", "input"),
        default="overlay",
        help="of all outputs (default: overlay)",
    )
    group.add_argument(
        "--alpha",
        action=Once,
        type=alpha,
        default=0.5,
        metavar="0..1",
        help="weight of the colours (0.5)",
    )
    group.add_argument(
        "--palette",
        action=Once,
        default="cityscapes",
        metavar="NAME|FILE",
        help="cityscapes, or a file: lines of red green blue name, or JSON {name: [r, g, b]}",
    )
    group.add_argument(
        "--classes", action=Once, metavar="A,B", help="colour only these; names or ids"
    )
    group.add_argument("--ignore-class", action=Once, metavar="A,B", help="do not colour these")
    group.add_argument(
        "--ignore-mask",
        action=Once,
        type=file_name,
        metavar="FILE.png",
        help="a picture laid over the frame: where it is white, nothing is said (bonnet, clock)",
    )
    group.add_argument("--legend", action="store_true", help="names and colours in the picture")
    group.add_argument(
        "--hud",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="rate, latency, drops in the picture (default: in a window)",
    )
    group.add_argument(
        "--smooth",
        type=number(int, 1, 10),
        nargs="?",
        const=2,
        metavar="N",
        help="less flicker: a pixel changes its class after N frames in a row that say so, where "
        "the picture has not changed (default N: 2)",
    )
    group.add_argument(
        "--redact",
        metavar="A,B",
        help="cover these classes, such as person,rider, in every output; sound and subtitles "
        "stay unless --no-audio is given",
    )
    group.add_argument(
        "--redact-style",
        choices=("pixelate", "blur", "fill"),
        help="how (default: pixelate; fill leaves nothing but the outline)",
    )
    group.add_argument(
        "--redact-margin",
        type=number(float, 0, 0.25),
        metavar="0..0.25",
        help="growth of what is covered, as a share of the frame's shorter side (default: 0.04)",
    )
    group.add_argument(
        "--redact-hold",
        type=number(float, 0, 10),
        metavar="S",
        help="seconds that what was covered stays so when it is not found again (default: 0.5)",
    )


def _add_flow(parser: Parser) -> None:
    group = parser.add_argument_group("flow")
    group.add_argument(
        "--drop-policy",
        choices=("latest", "block"),
        help="default: latest for a live source, block for a file",
    )
    group.add_argument(
        "--buffer",
        type=number(int, 0, 1000),
        default=0,
        metavar="N",
        help="frames that may wait (0: 1 of a live source, 4 of a file)",
    )
    group.add_argument(
        "--max-fps",
        type=number(float, 0, above=True),
        metavar="F",
        help="leave frames above it out",
    )
    group.add_argument(
        "--stride", type=number(int, 1), default=1, metavar="N", help="take each n-th frame"
    )
    group.add_argument(
        "--loop", type=number(int, 0), default=1, metavar="N", help="play N times; 0: for ever"
    )
    group.add_argument("--start", type=number(float, 0), default=0.0, metavar="S", help="seconds")
    group.add_argument(
        "--duration",
        type=number(float, 0, above=True),
        metavar="S",
        help="seconds from there, or from a live source's first frame",
    )
    group.add_argument("--max-frames", type=number(int, 1), metavar="N", help="end after N frames")
    group.add_argument(
        "--timeout",
        type=number(float, 0, above=True),
        default=10.0,
        metavar="S",
        help="seconds without a frame until a stream counts as lost (%(default)g)",
    )
    group.add_argument(
        "--reconnect",
        type=reconnect,
        metavar="N|forever",
        help="tries in a row for a stream or camera that was lost; 0: its loss is the end "
        "(default: forever)",
    )
    add_source_options(group)


def _add_encode(parser: Parser) -> None:
    group = parser.add_argument_group("encode")
    group.add_argument(
        "--codec", action=Once, metavar="NAME", help="h264 (default), h265, av1, vp9, h264_nvenc"
    )
    group.add_argument(
        "--crf", action=Once, type=number(int, 0, 63), metavar="N", help="quality, less is better"
    )
    group.add_argument("--bitrate", action=Once, metavar="N[k|M]", help="instead of --crf")
    group.add_argument(
        "--preset",
        action=Once,
        metavar="NAME",
        help="of the encoder: ultrafast (h264's default) to veryslow; slower is smaller",
    )
    group.add_argument("--no-audio", action="store_true", help="leave sound and subtitles out")


def _add_run(parser: Parser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--headless", action="store_true", help="never open a window")
    group.add_argument("-q", "--quiet", action="store_true", help="errors only")
    group.add_argument("-v", "--verbose", action="count", default=0, help="more; twice: most")
    group.add_argument("--log-format", choices=("text", "json"), default="text")
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="default: when stderr is a terminal",
    )
    group.add_argument("--debug", action="store_true", help="tracebacks")
    group.add_argument(
        "--profile",
        nargs="?",
        const="",
        metavar="FILE.json|.html",
        help="the closing report, also as JSON or as a page with charts when a file is named; "
        "without --out nothing is shown",
    )
    group.add_argument(
        "--trace",
        type=file_name,
        metavar="FILE.json",
        help="every stage of every frame on a time axis; opens in ui.perfetto.dev",
    )
    group.add_argument(
        "--metrics-port",
        type=listen_address,
        metavar="[HOST:]N",
        help="counters and histograms for Prometheus at http://127.0.0.1:N/metrics, "
        "beside /healthz and /readyz; 0.0.0.0:N or [::]:N: for other machines, too",
    )
