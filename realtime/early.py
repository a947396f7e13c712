"""The engine of a file is opened while the loop is imported and the file opened.

Each takes a good part of the start. So this module imports nothing heavy itself.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtseg.engines.engine import Engine
    from rtseg.realtime.frame import SourceInfo
    from rtseg.realtime.sources.resolve import SourceSpec

AUTO = "auto"


class EarlyEngine:
    """Opens the engine of a run; that of a file in a thread, from the beginning of its block on.

    What was opened and not taken is closed at the end of the block.

    Args:
        options: the command's.
        spec: what the source is; None for several, whose engine is never early.
    """

    def __init__(self, options: argparse.Namespace, spec: SourceSpec | None) -> None:
        self._options = options
        self._engine: Engine | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if spec is not None and can_be_early(options, spec):
            self._thread = threading.Thread(target=self._run, name="rtseg-open")

    def take(self, info: SourceInfo) -> Engine:
        """Return the open engine; the caller closes it. Another time, one opened for that source.

        Args:
            info: the source, which is open by now.

        Raises:
            UsageError: as :func:`~rtseg.realtime.quality.open_asked`.
            EngineError: the engine cannot be opened.
        """
        from rtseg.realtime.quality import open_asked, suited

        if self._thread is not None:
            self._thread.join()
        engine, self._engine = self._engine, None
        if self._error is not None:
            raise self._error
        if engine is None:
            return open_asked(self._options, info)
        return suited(engine, self._options, info)

    def __enter__(self) -> EarlyEngine:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._engine is not None:
            self._engine.close()

    def _run(self) -> None:
        try:
            if self._options.keyframes > 1:
                with contextlib.suppress(ImportError):
                    import av  # noqa: F401  before OpenCV: both bring some of the same libraries

                    import rtseg.engines.keyframes  # noqa: F401
            from rtseg.realtime.frame import SourceInfo
            from rtseg.realtime.quality import open_chosen

            # An engine that can be early depends on nothing of it but that it is not live.
            info = SourceInfo("early", "early", width=1, height=1, live=False)
            self._engine = open_chosen(self._options, info)
        except BaseException as error:
            self._error = error


def can_be_early(options: argparse.Namespace, spec: SourceSpec) -> bool:
    """Return whether the engine depends on nothing that only the open source tells.

    And on nothing that takes minutes, as building one for a GPU does: a source that cannot be
    opened is to be said at once.
    """
    portable = options.engine is None or Path(options.engine).suffix in (".onnx", ".xml")
    on_cpu = options.backend in ("auto", "openvino", "onnxruntime") and options.device in (
        "auto",
        "cpu",
    )
    early = spec.kind in ("file", "images") and not options.live
    return early and options.quality != AUTO and portable and on_cpu
