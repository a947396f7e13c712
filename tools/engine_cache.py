"""``rt-seg-engine cache``: what is kept between runs, and making room."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import UsageError
from rtseg.tools import argument_types

if TYPE_CHECKING:
    from rtseg.realtime.parser import Parser

_MB = 1e6
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Part:
    """A folder of the cache.

    Attributes:
        path: where it is.
        files: how many files are in it.
        size_bytes: how large they are together.
        used_s: when one of them was last written or read, in seconds since 1970.
    """

    path: Path
    files: int
    size_bytes: int
    used_s: float

    def age_days(self, now_s: float) -> float:
        """Return how long it was not used, in days."""
        return max(0.0, (now_s - self.used_s) / _DAY_S)


def add_cache_parser(commands: argparse._SubParsersAction[Parser], shared: Parser) -> None:
    """Add ``cache`` to the commands of ``rt-seg-engine``."""
    parser = commands.add_parser(
        "cache",
        parents=[shared],
        help="what is kept between runs: compiled networks, engines, teachers' answers",
    )
    parser.add_argument(
        "--clear", action="store_true", help="delete it; it is made again as needed"
    )
    parser.add_argument(
        "--unused",
        type=argument_types.count,
        metavar="DAYS",
        help="with --clear: only what was not used for so long",
    )


def cache(options: argparse.Namespace) -> None:
    """Print the cache's parts; with ``--clear`` delete them.

    Raises:
        UsageError: ``--unused`` without ``--clear``.
        OSError: something cannot be deleted.
    """
    from rtseg.engines.cache import default_cache_dir

    if options.unused is not None and not options.clear:
        raise UsageError(f"--unused goes with --clear. Received: --unused {options.unused} alone")
    root, now_s = default_cache_dir(), time.time()
    parts = find_parts(root)
    if options.clear:
        parts = [part for part in parts if part.age_days(now_s) >= (options.unused or 0)]
        for part in parts:
            shutil.rmtree(part.path)
    if options.json:
        print(json.dumps(_record(root, parts, now_s, cleared=options.clear), indent=2))
        return
    for part in parts:
        print(
            f"{part.path.name:<34}{part.size_bytes / _MB:>9.1f} MB {part.files:>6} files, "
            f"unused for {part.age_days(now_s):.0f} days"
        )
    done = "deleted from" if options.clear else "in"
    print(f"{sum(part.size_bytes for part in parts) / _MB:.1f} MB {done} {root}")


def find_parts(root: Path) -> list[Part]:
    """Return the folders of a cache, the largest first; none where it is absent."""
    if not root.is_dir():
        return []
    found = []
    for folder in root.iterdir():
        if not folder.is_dir() or folder.is_symlink():
            continue
        states = [file.lstat() for file in folder.rglob("*") if not file.is_dir()]
        used_s = max((max(s.st_atime, s.st_mtime) for s in states), default=folder.stat().st_mtime)
        found.append(Part(folder, len(states), sum(s.st_size for s in states), used_s))
    return sorted(found, key=lambda part: -part.size_bytes)


def _record(root: Path, parts: list[Part], now_s: float, *, cleared: bool) -> dict[str, Any]:
    return {
        "cache": str(root),
        "deleted": cleared,
        "parts": [
            {
                "name": part.path.name,
                "files": part.files,
                "size_bytes": part.size_bytes,
                "unused_days": round(part.age_days(now_s), 2),
            }
            for part in parts
        ],
    }
