"""High dynamic range brought to what every screen, file and network here understands."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)

PQ, HLG = 16, 18
"""Numbers of the two HDR transfer curves (ITU-T H.273; SMPTE ST 2084 and ARIB STD-B67)."""

_NAMES = {PQ: "PQ", HLG: "HLG"}

# FFmpeg 8's scaler maps tones and gamut itself, by the mastering display's peak where the
# stream tells it.
_SDR = (
    "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709:out_range=tv:intent=perceptual"
)


class ToneMapper:
    """Turns the HDR frames of one stream (PQ, HLG) into 8-bit BT.709 ones; others pass.

    The network has learnt from SDR pictures, and players show an HDR picture tagged as
    anything else washed out; so it is mapped once, before everything else. The first HDR
    frame waits for FFmpeg's table of colours, a second or two; the others do not.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._graph: av.filter.Graph | None = None
        self._key: tuple[object, ...] = ()
        self._unable = False

    def to_sdr(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return ``frame`` itself unless it is HDR, else a new SDR one in yuv420p."""
        curve = int(frame.color_trc)
        if curve not in _NAMES or self._unable:
            return frame
        import av

        key = (frame.width, frame.height, frame.format.name, curve, int(frame.color_primaries))
        try:
            if self._graph is None or key != self._key:
                self._graph = _graph(frame)
                if not self._key:
                    log.info("%s: HDR (%s), mapped to SDR", self._name, _NAMES[curve])
                self._key = key
            self._graph.vpush(frame)
            return self._graph.vpull()
        except (av.FFmpegError, ValueError) as error:
            self._unable = True
            text = "%s: HDR (%s) cannot be mapped to SDR: %s; it is shown as it is"
            log.warning(text, self._name, _NAMES[curve], error)
            return frame


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    nodes = [source, graph.add("scale", _SDR), graph.add("format", "yuv420p")]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph
