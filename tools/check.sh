#!/usr/bin/env bash
# Installs the package with what its tests need into the active environment, then lints,
# checks types and runs the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

python -m pip install --quiet -e '.[test,train]' --config-settings editable_mode=strict
# Types of TensorRT 10 for one test; what they depend on is a download of gigabytes.
python -m pip install --quiet --no-deps 'tensorrt-stubs>=10.13,<11' ||
  echo "tensorrt-stubs could not be installed; its test will skip" >&2
ruff check .
ruff format --check .
rooms=(-p rtseg.realtime -p rtseg.engines -p rtseg.calibration -p rtseg.models -p rtseg.tools)
(cd "$(mktemp -d)" && mypy --config-file "$OLDPWD/pyproject.toml" "${rooms[@]}")
python -m pytest "$@"
