"""A slow network, for one test: a network namespace behind a link with traffic shaping."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

needs_slow_link = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("ip", "tc", "ffmpeg")) or os.geteuid() != 0,
    reason="needs ip, tc and ffmpeg, and to be root",
)


@dataclass(frozen=True)
class SlowLink:
    """A namespace and the addresses of both ends.

    Attributes:
        inside: what a command begins with that runs behind the link.
        here: the address on this side.
        there: the address behind the link.
    """

    inside: tuple[str, ...]
    here: str
    there: str


@contextlib.contextmanager
def slow_link(kbit: int) -> Iterator[SlowLink]:
    """Make a namespace behind a link of ``kbit`` in both directions; skip where that cannot be."""
    name, number = f"rtseg{os.getpid()}", os.getpid() % 250
    here, there = f"10.211.{number}.1", f"10.211.{number}.2"
    near, far = f"rts{os.getpid()}a", f"rts{os.getpid()}b"
    inside = ("ip", "netns", "exec", name)
    # tbf, because a kernel may lack netem
    shaped = ("root", "tbf", "rate", f"{kbit}kbit", "burst", "16kb", "latency", "400ms")
    steps = [
        ("ip", "netns", "add", name),
        ("ip", "link", "add", near, "type", "veth", "peer", "name", far),
        ("ip", "link", "set", far, "netns", name),
        ("ip", "addr", "add", f"{here}/24", "dev", near),
        ("ip", "link", "set", near, "up"),
        (*inside, "ip", "addr", "add", f"{there}/24", "dev", far),
        (*inside, "ip", "link", "set", far, "up"),
        (*inside, "tc", "qdisc", "add", "dev", far, *shaped),
        ("tc", "qdisc", "add", "dev", near, *shaped),
    ]
    try:
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no slow link here: {' '.join(step)}: {done.stderr.strip()}")
        yield SlowLink(inside, here, there)
    finally:
        subprocess.run(["ip", "link", "del", near], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
