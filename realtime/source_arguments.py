"""Options of ``rt-seg`` about what a source is and how its pictures lie. Imports nothing heavy."""

from __future__ import annotations

import argparse

from rtseg.realtime.argument_values import number


def add_source_options(group: argparse._ArgumentGroup) -> None:
    """Add them to a group of the parser."""
    group.add_argument(
        "--live",
        action="store_true",
        help="what comes through a pipe (-, or a named one) is live: the newest frame wins",
    )
    add_picture_options(group)


def add_picture_options(group: argparse._ArgumentGroup) -> None:
    """Add those that each source of a list may have for itself."""
    group.add_argument(
        "--width",
        type=number(int, 1, 16384),
        metavar="W",
        help="of a camera or screen, with --height",
    )
    group.add_argument(
        "--height",
        type=number(int, 1, 16384),
        metavar="H",
        help="of a camera or screen, with --width",
    )
    group.add_argument(
        "--fps",
        type=number(float, 0, 1000, above=True),
        metavar="F",
        help="of a camera, screen or images, or of bare H.264 and Motion JPEG, which name none",
    )
    group.add_argument(
        "--rotate",
        type=int,
        choices=(0, 90, 180, 270),
        default=0,
        help="degrees clockwise to turn every picture by: a camera mounted on its side or head",
    )
    group.add_argument(
        "--flip",
        choices=("horizontal", "vertical"),
        help="mirror every picture, after turning it",
    )
    group.add_argument(
        "--track",
        type=number(int, 1),
        metavar="N",
        help="which video track, where a file has several, as of front and rear camera",
    )
    group.add_argument(
        "--input-format",
        choices=("mjpeg", "yuyv"),
        help="of a camera (default: mjpeg from 800 columns on, where it has that)",
    )
    group.add_argument("--rtsp-transport", choices=("tcp", "udp"), default="tcp", help="(tcp)")
    group.add_argument("--hwaccel", default="none", metavar="auto|none|NAME", help="decoder (none)")
