"""Opening inputs with PyAV, whichever of its versions is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from av.container import InputContainer

_FIRST_TOLERANT = 19


def open_input(target: Any, **more: Any) -> InputContainer:
    """Open an input as ``av.open`` does, tolerating metadata that is not UTF-8.

    Args:
        target: path, URL or file-like object.
        more: further arguments of ``av.open``.

    Raises:
        av.FFmpegError: it cannot be opened.
    """
    import av

    # Versions before 19 refuse a file for one bad letter in its title unless told not to.
    if int(av.__version__.partition(".")[0]) < _FIRST_TOLERANT:
        more["metadata_errors"] = "replace"
    return cast("InputContainer", av.open(target, **more))
