"""Videos whose packets of sound all differ, so that each can be told by its bytes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media import picture

SIZE = (96, 64)
FPS = 25


def make(path: Path, codec: str = "aac", length_s: int = 60, rate: int = 48_000) -> Path:
    """Write a video with noise as its sound."""
    layout = "mono" if codec == "pcm_mulaw" else "stereo"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.gop_size = 10
        video.options = {"preset": "ultrafast", "bf": "0"}
        sound = out.add_stream(codec, rate=rate, layout=layout)
        form = sound.codec_context.codec.audio_formats[0].name
        sound.codec_context.format = form
        block = sound.codec_context.frame_size or rate // 50
        resampler = av.AudioResampler(form, layout, rate, frame_size=block)
        random, done = np.random.default_rng(0), 0
        for index in range(length_s * FPS):
            frame = picture(index, SIZE)
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(video.encode(frame))
            while done / rate < index / FPS:
                noise = random.integers(-9000, 9000, (1, 1024)).astype(np.int16)
                heard = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
                heard.sample_rate, heard.time_base = rate, Fraction(1, rate)
                heard.pts = done
                done += 1024
                for part in resampler.resample(heard):
                    out.mux(sound.encode(part))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path
