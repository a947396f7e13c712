"""Packaging of rt-seg: each room is installed as ``rtseg.<room>``.

The rooms live at the top of the repository; ``rtseg`` is an implicit namespace
without a folder of its own, so the mapping is spelled out here.
"""

from setuptools import setup

ROOMS = {
    "rtseg.realtime": "realtime",
    "rtseg.realtime.sources": "realtime/sources",
    "rtseg.realtime.sinks": "realtime/sinks",
    "rtseg.realtime.web": "realtime/web",
    "rtseg.engines": "engines",
    "rtseg.calibration": "calibration",
    "rtseg.models": "models",
    "rtseg.tools": "tools",
}

setup(
    packages=list(ROOMS),
    package_dir=ROOMS,
    package_data={
        **{room: ["py.typed"] for room in ROOMS},
        "rtseg.realtime.web": ["py.typed", "assets/*"],
        "rtseg.engines": ["py.typed", "kernels.cu"],
        "rtseg.models": ["py.typed", "weights/*.onnx", "weights/*.json", "configs/*"],
    },
)
