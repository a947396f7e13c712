#!/usr/bin/env bash
# Installs the package with what its tests need into the active environment, then lints,
# checks types and runs the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

python -m pip install --quiet -e '.[test,train]' --config-settings editable_mode=strict
ruff check .
ruff format --check .
rooms=(-p rtseg.realtime -p rtseg.engines -p rtseg.calibration -p rtseg.models -p rtseg.tools)
(cd "$(mktemp -d)" && mypy --config-file "$OLDPWD/pyproject.toml" "${rooms[@]}")
python -m pytest "$@"
