"""Engine files of TensorRT: our header, then the plan as the runtime wrote it.

Layout, little-endian: 8 bytes ``RTSEGPLN``; format version, 4 bytes; length of the header, 4
bytes; its SHA-256, 32 bytes; the header, JSON in UTF-8; the plan. The header knows the plan's
length and SHA-256, so a cut or altered file is found before a runtime sees it.

A plan is executable code for the GPU and the runtime that it was built for: run only those
that you trust.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from rtseg.engines.errors import EngineError
from rtseg.engines.spec import EngineSpec
from rtseg.engines.tensorrt_layers import Layer
from rtseg.engines.wholefile import is_full, write_whole

_log = logging.getLogger(__name__)

MAGIC = b"RTSEGPLN"
PLAN_FORMAT = 1
"""Version of the layout above; a file of another one is refused."""

_HEAD = struct.Struct("<8sII32s")
_LARGEST_HEADER = 16 << 20


@dataclass(frozen=True)
class PlanIdentity:
    """All that a plan depends on: what is the same here gives the same engine.

    Attributes:
        backend: ``tensorrt`` or ``rtx``.
        runtime_version: version of the builder; only the same one runs the plan.
        gpu: name of the GPU it is for, or ``any`` that the runtime supports.
        compute_capability: that GPU's, as ``8.9``, or ``any``.
        network: name of the network.
        width: columns of the input, in pixels.
        height: rows of the input, in pixels.
        precision: ``fp32``, ``fp16`` or ``int8``.
        max_batch: frames that one inference may hold.
        workspace_mib: limit of the builder's working memory, in MiB; 0 for the runtime's own.
        file_sha256: hash of the network file that it was built from.
        source_sha256: hash of the weights behind that.
        calibration_sha256: hash of the calibration (INT8 only), or empty.
        maker_version: version of rt-seg, whose graph surgery comes in between.
    """

    backend: str
    runtime_version: str
    gpu: str
    compute_capability: str
    network: str
    width: int
    height: int
    precision: str
    max_batch: int
    workspace_mib: int
    file_sha256: str
    source_sha256: str
    calibration_sha256: str
    maker_version: str

    def key(self) -> str:
        """Return 16 hexadecimal digits that stand for all of it and for the format."""
        record = json.dumps([PLAN_FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(record.encode()).hexdigest()[:16]

    def difference(self, wanted: PlanIdentity) -> str:
        """Say what differs from ``wanted``, in a few words; empty where nothing does."""
        for name, label in _LABELS.items():
            mine, other = getattr(self, name), getattr(wanted, name)
            if mine != other:
                return f"built for {label} {_short(mine)}, here it is {_short(other)}"
        return ""


_LABELS = {
    "network": "network",
    "backend": "backend",
    "runtime_version": "runtime version",
    "compute_capability": "compute capability",
    "gpu": "GPU",
    "precision": "precision",
    "width": "width",
    "height": "height",
    "max_batch": "largest batch",
    "workspace_mib": "workspace",
    "source_sha256": "source sha256",
    "file_sha256": "network file sha256",
    "calibration_sha256": "calibration sha256",
    "maker_version": "rt-seg version",
}


@dataclass(frozen=True)
class PlanHeader:
    """What an engine file says of its plan.

    Attributes:
        identity: what the plan depends on.
        spec: what the loop needs to know of the network.
        input_name: name of the frames' tensor.
        output_name: name of the class ids' tensor.
        layers: layers of the engine, with their types.
        build_s: how long the build took, in seconds.
        built_utc: when, as ``2026-11-22T12:00:00Z``.
        plan_bytes: length of the plan.
        plan_sha256: its hash.
    """

    identity: PlanIdentity
    spec: EngineSpec
    input_name: str
    output_name: str
    layers: tuple[Layer, ...] = field(default=(), repr=False)
    build_s: float = 0.0
    built_utc: str = ""
    plan_bytes: int = 0
    plan_sha256: str = ""

    def to_json(self) -> str:
        """Return the header as one JSON object."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values.update(
            identity=asdict(self.identity),
            spec=json.loads(self.spec.to_json()),
            layers=[layer.to_json() for layer in self.layers],
        )
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PlanHeader:
        """Read what :meth:`to_json` wrote.

        Raises:
            EngineError: it is something else.
        """
        try:
            values = json.loads(text)
            identity = PlanIdentity(**values.pop("identity"))
            for each in fields(PlanIdentity):
                _want(getattr(identity, each.name), int if each.type == "int" else str)
            spec = EngineSpec.from_json(json.dumps(values.pop("spec")))
            layers = tuple(Layer.from_json(layer) for layer in values.pop("layers"))
            header = cls(identity=identity, spec=spec, layers=layers, **values)
            for name in ("input_name", "output_name", "built_utc", "plan_sha256"):
                _want(getattr(header, name), str)
            _want(header.plan_bytes, int)
            _want(header.build_s, (int, float))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise EngineError(
                f"the engine's header cannot be read: {error}", reason="ENGINE_DAMAGED"
            ) from error
        return header


def is_plan_file(path: Path) -> bool:
    """Tell whether a file begins as ours do; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def write_plan(path: Path, header: PlanHeader, plan: bytes | memoryview) -> PlanHeader:
    """Write an engine file: under another name beside its place, then renamed.

    Returns:
        The header as written, with the plan's length and hash.

    Raises:
        EngineError: ``NO_SPACE`` where the disk is full, ``PERMISSION_DENIED`` or
            ``NOT_FOUND`` where the folder is closed or missing; nothing is left behind.
    """
    values = {f.name: getattr(header, f.name) for f in fields(header)}
    values.update(plan_bytes=len(plan), plan_sha256=hashlib.sha256(plan).hexdigest())
    written = PlanHeader(**values)
    text = written.to_json().encode()
    head = _HEAD.pack(MAGIC, PLAN_FORMAT, len(text), hashlib.sha256(text).digest())
    try:
        write_whole(path, head, text, plan, sync=True)
    except OSError as error:
        kind = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "NOT_FOUND"
        raise EngineError(
            f"cannot write {path}: {error.strerror or error}",
            reason="NO_SPACE" if is_full(error) else kind,
        ) from error
    return written


def read_header(path: Path) -> PlanHeader:
    """Read an engine file's header; the plan is checked for its length only.

    Raises:
        EngineError: ``NOT_FOUND``, ``PERMISSION_DENIED``, ``ENGINE_MISMATCH`` (another
            format) or ``ENGINE_DAMAGED``.
    """
    with _Opened(path) as file:
        return _header(file, path)


def read_plan(
    path: Path, wanted: PlanIdentity | None = None, *, trusted: Path | None = None
) -> tuple[PlanHeader, bytes]:
    """Read an engine file and check all of it.

    Args:
        path: the file.
        wanted: what this machine and run need, or None to take whatever it is.
        trusted: the folder of our own cache; for a file elsewhere a warning is logged.

    Raises:
        EngineError: as :func:`read_header`; ``ENGINE_MISMATCH`` where it is not ``wanted``.
    """
    with _Opened(path) as file:
        header = _header(file, path)
        if wanted is not None and (why := header.identity.difference(wanted)):
            raise EngineError(f"{path.name} does not fit: {why}", reason="ENGINE_MISMATCH")
        plan = file.read()
    if hashlib.sha256(plan).hexdigest() != header.plan_sha256:
        raise _damaged(path, "its plan is not what was written")
    if trusted is None or trusted.resolve() not in path.resolve().parents:
        _log.warning(
            "%s is not from this machine's cache: a plan is executable code, run only those that "
            "you trust",
            path,
        )
    return header, plan


def _header(file: BinaryIO, path: Path) -> PlanHeader:
    head = file.read(_HEAD.size)
    if head[: len(MAGIC)] != MAGIC:
        raise EngineError(
            f"{path} is no engine file of rt-seg (a bare TensorRT plan cannot be used: build it "
            "with rt-seg-engine build)",
            reason="ENGINE_UNSUPPORTED",
        )
    if len(head) < _HEAD.size:
        raise _damaged(path, "it is cut off")
    _, version, length, digest = _HEAD.unpack(head)
    if version != PLAN_FORMAT:
        raise EngineError(
            f"{path} has engine file format {version}, this version reads {PLAN_FORMAT}: rebuild "
            "it",
            reason="ENGINE_MISMATCH",
        )
    if length > _LARGEST_HEADER:
        raise _damaged(path, f"its header would have {length} bytes")
    text = file.read(length)
    if hashlib.sha256(text).digest() != digest:
        raise _damaged(path, "its header is not what was written")
    try:
        header = PlanHeader.from_json(text.decode())
    except UnicodeDecodeError as error:
        raise _damaged(path, "its header is not text") from error
    present = os.fstat(file.fileno()).st_size - _HEAD.size - length
    if present != header.plan_bytes:
        raise _damaged(path, f"its plan has {present} bytes of {header.plan_bytes}")
    return header


class _Opened:
    """Opens a file for reading; what goes wrong becomes an :class:`EngineError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> BinaryIO:
        from rtseg.engines.onnxfile import check_file

        check_file(self._path)
        self._file = self._path.open("rb")
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _damaged(path: Path, why: str) -> EngineError:
    return EngineError(f"{path} is damaged: {why}; rebuild it", reason="ENGINE_DAMAGED")


def _short(value: object) -> str:
    text = str(value) or "none"
    return text[:12] if len(text) == 64 else text


def _want(value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not of the right type")
