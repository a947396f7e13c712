"""How a calibration may choose thresholds, by name. Imports nothing heavy, for the commands."""

from __future__ import annotations

from typing import Literal, get_args

Method = Literal["mse", "percentile", "entropy", "minmax"]

METHODS: tuple[str, ...] = get_args(Method)

PERCENTILE = 99.99
"""Share of the values, in percent, that do not saturate by the method ``percentile``."""
