"""Options of ``rt-seg`` about what a source is and how its pictures lie. Imports nothing heavy."""

from __future__ import annotations

import argparse


def add_source_options(group: argparse._ArgumentGroup) -> None:
    """Add them to a group of the parser."""
    group.add_argument(
        "--live",
        action="store_true",
        help="what comes through a pipe (-, or a named one) is live: the newest frame wins",
    )
