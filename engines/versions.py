"""Versions of what is installed."""

from __future__ import annotations

from importlib import metadata


def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None where it is absent."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def own_version() -> str:
    """Return the version of rt-seg."""
    return version_of("rt-seg") or "unknown (not installed)"
