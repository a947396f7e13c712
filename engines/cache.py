"""Where compiled networks are kept between runs."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from rtseg.engines.wholefile import write_whole

_log = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """Return ``$XDG_CACHE_HOME/rt-seg``, or ``~/.cache/rt-seg`` without that variable."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rt-seg"


def writable_cache(cache_dir: Path | None, part: str) -> Path | None:
    """Return the folder for one runtime's compiled networks, made if need be.

    Args:
        cache_dir: the cache's root, or None for :func:`default_cache_dir`.
        part: name of the runtime with its version; an update starts a new folder.

    Returns:
        None, after a log line, where nothing can be written: a cache is never needed.
    """
    try:
        folder = (cache_dir or default_cache_dir()) / part
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        _log.info("compiled networks are not kept: %s", error)
        return None
    return folder


def keep(path: Path, content: bytes) -> None:
    """Write a file of the cache, all or nothing.

    Raises:
        OSError: it cannot be written; whoever calls does without.
    """
    write_whole(path, content)
