"""Forms of source that other tools know, and how to get the same here."""

from __future__ import annotations

import re

GSTREAMER = (
    "a GStreamer pipeline comes through a pipe: "
    "gst-launch-1.0 -q … ! x264enc tune=zerolatency ! mpegtsmux ! fdsink | rt-seg - --live."
)

_ELEMENTS = re.compile(r"\S\s+!\s+\S")

_ADVICE = {
    "rtp": (
        "RTP alone does not say what it carries: write the sender's description into an SDP file, "
        "and name that (rt-seg camera.sdp)."
    ),
    "csi": (
        "a CSI camera comes through a pipe: rpicam-vid -t 0 --inline -o - | rt-seg - --live "
        "(on a Jetson: gst-launch-1.0 -q nvarguscamerasrc ! nvvidconv ! x264enc tune=zerolatency "
        "! mpegtsmux ! fdsink | rt-seg - --live)."
    ),
}


def advice_for_scheme(scheme: str) -> str | None:
    """Return one sentence for a scheme that is read another way here, None for others."""
    return _ADVICE.get(scheme)


def is_gstreamer(text: str) -> bool:
    """Say whether a text looks like a pipeline of GStreamer's: elements with ``!`` between."""
    return _ELEMENTS.search(text) is not None
