"""FFmpeg's errors in the words of this project: one reason word and one plain line."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SourceError

if TYPE_CHECKING:
    import av

_BY_CLASS = {
    "HTTPUnauthorizedError": (
        "AUTH_FAILED",
        "the server wants another user or password (401); give them as SCHEME://USER:PASSWORD@HOST",
    ),
    "HTTPForbiddenError": ("AUTH_FAILED", "the server forbids it (403)"),
    "HTTPNotFoundError": ("NOT_FOUND", "the server has no such stream (404)"),
    "HTTPBadRequestError": ("CONNECTION_FAILED", "the server refuses the request (400)"),
    "HTTPTooManyRequestsError": ("CONNECTION_FAILED", "the server is busy (429)"),
    "HTTPOtherClientError": ("CONNECTION_FAILED", "the server refuses the request (4xx)"),
    "HTTPServerError": ("CONNECTION_FAILED", "the server failed (5xx)"),
    "ProtocolNotFoundError": (
        "PROTOCOL_UNSUPPORTED",
        "this FFmpeg does not speak that protocol (the one in PyAV's wheels has no srt)",
    ),
    "DemuxerNotFoundError": ("NOT_A_VIDEO", "no container format that FFmpeg reads"),
    "DecoderNotFoundError": ("CODEC_UNSUPPORTED", "FFmpeg has no decoder for it"),
    "PatchWelcomeError": ("CODEC_UNSUPPORTED", "FFmpeg cannot decode this variant of the codec"),
    "InvalidDataError": ("NOT_A_VIDEO", "not a video that can be read, or damaged"),
    "EOFError": ("NO_FRAMES", "it ended before anything could be read"),
}
_BY_ERRNO = {
    errno.ENOENT: ("NOT_FOUND", "there is no such file or device"),
    errno.ENODEV: ("NOT_FOUND", "there is no such device"),
    errno.ENXIO: ("NOT_FOUND", "there is no such device"),
    errno.EACCES: ("PERMISSION_DENIED", "no permission to read it"),
    errno.EPERM: ("PERMISSION_DENIED", "no permission to read it"),
    errno.EBUSY: ("BUSY", "another program is using it"),
    errno.EISDIR: ("NOT_A_VIDEO", "it is a directory"),
    errno.ENOTTY: ("NOT_A_CAMERA", "the device is no video capture device"),
    errno.ECONNREFUSED: ("CONNECTION_FAILED", "connection refused; is a server running there?"),
    errno.ECONNRESET: ("CONNECTION_FAILED", "the connection was reset"),
    errno.EHOSTUNREACH: ("CONNECTION_FAILED", "the host cannot be reached"),
    errno.ENETUNREACH: ("CONNECTION_FAILED", "the network cannot be reached"),
    errno.EPROTONOSUPPORT: (
        "PROTOCOL_UNSUPPORTED",
        "the other side does not send in the way asked for",
    ),
    errno.EPIPE: ("CONNECTION_FAILED", "the other side closed the connection"),
    errno.EADDRINUSE: ("BUSY", "another program listens on that address"),
    errno.ETIMEDOUT: ("TIMEOUT", "no answer in time"),
    errno.ENOMEM: ("NO_MEMORY", "not enough memory"),
}


def source_error(
    error: av.FFmpegError, name: str, *, broken: bool = False, timeout_s: float | None = None
) -> SourceError:
    """Return the :class:`SourceError` that says what ``error`` means for source ``name``.

    The text of FFmpeg's own error is left out where it may hold the URL, and with it a
    password: only its description is used.

    Args:
        error: what PyAV raised.
        name: the source as it may be shown (see :func:`naming.shown`).
        broken: whether it is a stream or device that did send frames before.
        timeout_s: the time limit that was set, in seconds, for the message.
    """
    kind = type(error).__name__
    if kind == "ExitError":  # what FFmpeg returns when PyAV's time limit cuts a call short
        limit = "" if timeout_s is None else f" within {timeout_s:g} s (--timeout)"
        return SourceError(f"{name}: no answer{limit}", reason="TIMEOUT")
    if broken and (kind in ("EOFError", "InvalidDataError") or error.errno == errno.EIO):
        return SourceError(f"{name}: the connection broke", reason="CONNECTION_FAILED")
    known = _BY_CLASS.get(kind) or _BY_ERRNO.get(error.errno or 0)
    if known is not None:
        reason, meaning = known
        return SourceError(f"{name}: {meaning}", reason=reason)
    # FFmpeg has no better word for a host name that cannot be resolved than "I/O error", nor for
    # a file whose index lies at its end on a server that gives no parts of files.
    if error.errno == errno.EIO and name.startswith(("http://", "https://")):
        return SourceError(
            f"{name}: cannot be read: no such host, or a file with its index at the end on a "
            "server without range requests (ffmpeg -movflags +faststart puts it in front)",
            reason="CONNECTION_FAILED",
        )
    reason = "CONNECTION_FAILED" if error.errno == errno.EIO else "FAILED"
    described = (error.strerror or "unknown error").strip().rstrip(".").lower()
    return SourceError(f"{name}: {described}", reason=reason)
