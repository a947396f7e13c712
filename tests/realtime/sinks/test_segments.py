"""Recordings in files of a fixed length: nothing lost, nothing doubled, each plays by itself."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.frame import Frame, Rendered
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.segments import SegmentedVideoSink, SegmentOptions, segment_options
from rtseg.realtime.sinks.video import VideoFileSink
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.wallclock import utc_text
from tests.media import frame_number, make_video
from tests.realtime.sinks.parts import (
    TICKS,
    TIME_BASE,
    context,
    fill_with_noise,
    read,
    rendered,
    write_frames,
)

SECOND = SegmentOptions(length_s=Fraction(1))
VFR_MS = list(itertools.accumulate(itertools.islice(itertools.cycle([40, 8, 210, 33, 4, 90]), 90)))


@contextmanager
def film(path, sound_later=0):
    """Yield a context, a file's frames with their sound as the loop has them, and the rest.

    With ``sound_later``, sound comes so many frames late.
    """
    renderer = Renderer(CITYSCAPES, ViewOptions(view="input"))
    labels = np.zeros((4, 4), np.uint8)
    with av.open(str(path)) as file:
        video, sound = file.streams.video[0], file.streams.audio
        about = context(
            (video.width, video.height),
            fps=video.average_rate,
            time_base=video.time_base,
            passthrough=tuple(sound),
        )
        items, waiting, late = [], [], [()] * sound_later
        for packet in file.demux(video, *sound):
            if packet.stream.type == "audio":
                if packet.size and not packet.is_discard:
                    waiting.append(packet)
                continue
            for decoded in packet.decode():
                late.append(tuple(waiting))
                waiting = []
                frame = Frame(
                    len(items), decoded, decoded.pts, video.time_base, packets=late.pop(0)
                )
                items.append(Rendered(frame, labels, renderer.render(frame, labels)))
        yield about, items, (*itertools.chain(*late), *waiting)


def record(sink, about, items, rest=None):
    with sink:
        sink.open(about)
        for item in items:
            sink.write(item)
        if rest is not None:
            sink.write_packets(rest)


def with_packets(item, packets):
    return replace(item, frame=replace(item.frame, packets=tuple(packets)))


def packets_of(items):
    return [packet for item in items for packet in item.frame.packets]


def sound_of(path):
    with av.open(str(path)) as file:
        packets = file.demux(audio=0)
        return [bytes(packet) for packet in packets if packet.size and not packet.is_discard]


def first_packet_is_a_keyframe(path):
    with av.open(str(path)) as file:
        packet = next(packet for packet in file.demux(video=0) if packet.size)
        return packet.is_keyframe and packet.pts == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("sound_later", [0, 6])
@pytest.mark.parametrize("rate", ["constant", "variable"])
def test_the_files_together_are_the_film(tmp_path, suffix, sound_later, rate):
    """Pictures, times and sound of all files, one after the other, are those of the source."""
    if rate == "variable":
        source = make_video(tmp_path / "in.mp4", 90, vfr_ms=[0, *VFR_MS[:-1]], audio=True)
    else:
        source = make_video(tmp_path / "in.mp4", 90, fps=25, audio=True)
    out = SegmentedVideoSink(tmp_path / f"out{suffix}", SECOND)
    with film(source, sound_later) as (about, items, rest):
        record(out, about, items, rest)
    files = sorted(tmp_path.glob("out_*"))
    assert [path.name for path in files] == [f"out_{n:03d}{suffix}" for n in range(len(files))]
    assert len(files) >= 4
    backs = [read(path) for path in files]
    assert all(first_packet_is_a_keyframe(path) for path in files)
    assert [packet for path in files for packet in sound_of(path)] == sound_of(source)
    tolerance = Fraction(1, 900) if suffix == ".mkv" else Fraction(0)
    times = [item.frame.pts * item.frame.time_base for item in items]
    found = []
    for start_s, back in zip(starts(times), backs, strict=True):
        found += [start_s + time for time in back.pts_s]
        (sound,) = back.packets.values()
        assert -Fraction(1, 10) < sound[0][0] < Fraction(3, 10)
        if start_s:
            assert sound[0][0] >= 0
    assert max(abs(a - b) for a, b in zip(found, times, strict=True)) <= tolerance
    numbers = [frame_number(back.first) for back in backs]
    assert numbers == [times.index(start_s) % 45 for start_s in starts(times)]
    index = out.summary().details["segments"]
    assert [Path(entry["path"]) for entry in index] == files
    assert [entry["start_s"] for entry in index] == [float(time) for time in starts(times)]
    assert [entry["size_bytes"] for entry in index] == [path.stat().st_size for path in files]
    if suffix != ".mkv":
        assert [entry["duration_s"] for entry in index] == [float(b.duration_s) for b in backs]


def starts(times, length_s=1):
    """Return when each file begins: the first picture at or after each multiple of the length."""
    cuts = itertools.groupby(times, key=lambda time: (time - times[0]) // length_s)
    return [next(group) for _, group in cuts]


def test_cuts_do_not_drift(tmp_path):
    tick = Fraction(1001, 30000)
    with SegmentedVideoSink(tmp_path / "s.mp4", SECOND) as sink:
        sink.open(context(fps=1 / tick, time_base=tick))
        for index, item in enumerate(rendered(160)):
            sink.write(replace(item, frame=replace(item.frame, pts=index, time_base=tick)))
    begins = [entry["start_s"] for entry in sink.summary().details["segments"]]
    assert begins == [float(tick * n) for n in (0, 30, 60, 90, 120, 150)]


def test_a_gap_leaves_no_empty_file(tmp_path):
    with SegmentedVideoSink(tmp_path / "s.mp4", SECOND) as sink:
        sink.open(context())
        write_frames(sink, 4, pts=[0, 512, 12800 * 300, 12800 * 300 + 512])
    first, second = sorted(tmp_path.iterdir())
    assert read(first).pts_s == read(second).pts_s == [0, 512 * TIME_BASE]
    assert sink.summary().details["segments"][1]["start_s"] == 300


def test_a_run_that_begins_later_still_begins_at_zero(tmp_path):
    """The first frames of a live source may have been dropped."""
    source = make_video(tmp_path / "in.mp4", 50, audio=True)
    with film(source) as (about, items, rest):
        first = with_packets(items[10], packets_of(items[:11]))
        record(SegmentedVideoSink(tmp_path / "out.mp4", SECOND), about, [first, *items[11:]], rest)
    back = read(tmp_path / "out_000.mp4")
    assert back.pts_s[0] == 0
    assert min(time for time, _ in back.packets[1]) >= 0
    # 400 to 1400 and 1400 to 2000 ms
    assert [len(read(path).pts_s) for path in sorted(tmp_path.glob("out_*"))] == [25, 15]


def test_all_sound_before_the_first_picture(tmp_path):
    source = make_video(tmp_path / "in.mp4", 75, audio=True)
    with film(source) as (about, items, rest):
        everything = [*packets_of(items), *rest]
        items = [with_packets(item, () if n else everything) for n, item in enumerate(items)]
        record(SegmentedVideoSink(tmp_path / "out.mp4", SECOND), about, items)
    files = sorted(tmp_path.glob("out_*"))
    assert len(files) == 3
    sounds = [sound_of(path) for path in files]
    assert list(itertools.chain(*sounds)) == sound_of(source)[: sum(map(len, sounds))]
    assert all(len(sound) >= 45 for sound in sounds)


def test_sound_that_comes_much_too_late_is_counted_and_said(tmp_path, caplog):
    source = make_video(tmp_path / "in.mp4", 110, audio=True)
    with film(source) as (about, items, _):
        silent = [with_packets(item, ()) for item in items]
        record(
            SegmentedVideoSink(tmp_path / "out.mp4", SECOND), about, silent, packets_of(items[:20])
        )
    assert "packets of sound came too late" in caplog.text
    assert sum(len(read(path).pts_s) for path in tmp_path.glob("out_*")) == 110


def test_without_sound_a_file_is_finished_at_once(tmp_path):
    """An ordinary file, with its index, as soon as the next one begins."""
    sink = SegmentedVideoSink(tmp_path / "s.mp4", SECOND)
    with sink:
        sink.open(context())
        write_frames(sink, 26)
        assert read(tmp_path / "s_000.mp4").duration_s == 1


def test_the_ring_keeps_the_newest(tmp_path):
    ring = SegmentOptions(length_s=Fraction(1), files=3)
    most = 0
    with SegmentedVideoSink(tmp_path / "s.mp4", ring) as sink:
        sink.open(context())
        for item in rendered(25 * 7):
            sink.write(item)
            most = max(most, len(list(tmp_path.iterdir())))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"s_00{n}.mp4" for n in (4, 5, 6)]
    assert most == 3
    summary = sink.summary()
    assert summary.details["deleted"] == 4
    assert len(summary.details["segments"]) == 3
    assert summary.lines[0] == "7 segments of 1 s; 4 oldest files deleted"


def test_a_new_run_goes_on_after_the_highest_number(tmp_path):
    for expected in (2, 4, 6):
        with SegmentedVideoSink(tmp_path / "s.mp4", SECOND) as sink:
            sink.open(context())
            write_frames(sink, 30)
        assert len(list(tmp_path.iterdir())) == expected
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"s_00{n}.mp4" for n in range(6)]


def test_a_ring_deletes_files_of_earlier_runs_only_when_it_may(tmp_path):
    ring = SegmentOptions(length_s=Fraction(1), files=3)
    for n in range(3, 7):
        (tmp_path / f"s_00{n}.mp4").write_bytes(b"from before")
    (tmp_path / "s_000.txt").write_bytes(b"something else")
    with pytest.raises(UsageError, match="-y/--overwrite") as caught:
        SegmentedVideoSink(tmp_path / "s.mp4", ring).open(context())
    assert caught.value.reason == "EXISTS"
    assert len(list(tmp_path.iterdir())) == 5
    with SegmentedVideoSink(tmp_path / "s.mp4", ring, overwrite=True) as sink:
        sink.open(context())  # a run without a frame deletes nothing
    assert len(list(tmp_path.iterdir())) == 5
    with SegmentedVideoSink(tmp_path / "s.mp4", ring, overwrite=True) as sink:
        sink.open(context())
        write_frames(sink, 30)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["s_000.txt", "s_006.mp4", "s_007.mp4", "s_008.mp4"]


def test_a_ring_never_deletes_the_source(tmp_path):
    source = make_video(tmp_path / "s_000.mp4", 100)
    ring = SegmentOptions(length_s=Fraction(1), files=2)
    with SegmentedVideoSink(tmp_path / "s.mp4", ring, overwrite=True) as sink:
        sink.open(context(path=source))
        write_frames(sink, 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "s_000.mp4", "s_003.mp4", "s_004.mp4",
    ]  # fmt: skip
    assert len(read(source).pts_s) == 100


@pytest.mark.parametrize("folder", ["user=1", "/".join(["long" * 50] * 2)])
def test_a_ring_never_deletes_a_source_whose_shown_name_is_another(tmp_path, folder):
    place = tmp_path / folder
    place.mkdir(parents=True)
    source, other = make_video(place / "s_000.mp4", 60), make_video(place / "s_001.mp4", 1)
    ring = SegmentOptions(length_s=Fraction(1), files=2)
    with (
        open_source(source) as opened,
        SegmentedVideoSink(place / "s.mp4", ring, overwrite=True, inputs=[other]) as sink,
    ):
        assert opened.info.name != str(source)
        sink.open(replace(context(), source=opened.info))
        write_frames(sink, 100)
        with pytest.raises(UsageError, match="the input itself"):
            VideoFileSink(source, overwrite=True).open(replace(context(), source=opened.info))
    names = [f"s_00{n}.mp4" for n in (0, 1, 4, 5)]
    assert sorted(path.name for path in place.iterdir()) == names
    assert len(read(source).pts_s) == 60


def test_names_by_the_clock_are_never_the_same_twice(tmp_path):
    with SegmentedVideoSink(tmp_path / "%Y.mp4", SECOND) as sink:
        sink.open(context())
        write_frames(sink, 60)
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 3
    assert sum(len(read(tmp_path / name).pts_s) for name in names) == 60


def test_a_ring_by_the_clock_deletes_the_file_that_was_begun_first(tmp_path):
    """Though one that ends may have been written to after the next one was begun."""
    ring = SegmentOptions(length_s=Fraction(1), files=2)
    begun = []
    with SegmentedVideoSink(tmp_path / "%Y.mp4", ring) as sink:
        sink.open(context())
        for item in rendered(25 * 6):
            sink.write(item)
            for path in set(tmp_path.iterdir()) - set(begun):
                begun.append(path)
                for age_s, older in enumerate(reversed(begun)):
                    if older.exists():  # the other way round
                        os.utime(older, (2e9 + age_s, 2e9 + age_s))
    assert set(tmp_path.iterdir()) == set(begun[-2:])


def test_a_file_that_cannot_be_begun_leaves_the_others_counted_once(tmp_path, monkeypatch):
    with SegmentedVideoSink(tmp_path / "s.mp4", SECOND) as sink:
        sink.open(context())
        write_frames(sink, 30)
        monkeypatch.setattr(sink._names, "free", lambda number: (number, tmp_path / "no" / "s.mp4"))
        with pytest.raises(SinkError):
            write_frames(sink, 60)
    listed = [Path(one["path"]).name for one in sink.summary().details["segments"]]
    assert listed == sorted(set(listed)) == ["s_000.mp4", "s_001.mp4"]


def test_a_directory(tmp_path):
    with SegmentedVideoSink(tmp_path, SECOND) as sink:
        sink.open(context(stem="100%"))
        write_frames(sink, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "100%_seg_000.mp4", "100%_seg_001.mp4",
    ]  # fmt: skip


def test_a_stopped_run_has_no_sound_after_its_picture(tmp_path):
    source = make_video(tmp_path / "in.mp4", 75, audio=True)
    with film(source) as (about, items, _):
        ahead = packets_of(items)
        part = [with_packets(item, () if n else ahead) for n, item in enumerate(items[:35])]
        record(SegmentedVideoSink(tmp_path / "out.mp4", SECOND), about, part)
    last = read(tmp_path / "out_001.mp4")
    assert len(last.pts_s) == 10
    assert max(time for time, _ in last.packets[1]) < Fraction(4, 10)


WRITER = """
import sys
from fractions import Fraction
from tests.realtime.sinks.parts import context, rendered
from rtseg.realtime.sinks.segments import SegmentedVideoSink, SegmentOptions
sink = SegmentedVideoSink(sys.argv[1], SegmentOptions(length_s=Fraction(2), files=3))
sink.open(context())
for item in rendered(100000):
    sink.write(item)
    if item.frame.index == 50 * 5 + 40:
        print("going", flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_killed_writer_leaves_files_that_play(tmp_path, suffix):
    path = tmp_path / f"s{suffix}"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stdin is not None
    assert writer.stdout.readline() == b"going\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    writer.stdin.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"s_00{n}{suffix}" for n in (3, 4, 5)]
    counts = [len(read(file).pts_s) for file in files]
    assert counts[:2] == [50, 50]
    # 40 frames are 1.6 s; a second may be in the fragment that was being made
    assert 12 <= counts[2] <= 41


def test_a_full_disk_leaves_files_that_play(tiny_disk):
    sink = SegmentedVideoSink(tiny_disk / "s.mp4", SECOND, EncodeOptions(crf=30))
    sink.open(context((320, 240)))
    written = []
    with pytest.raises(SinkError) as caught:
        fill_with_noise(sink, written)
    sink.close()
    assert caught.value.reason == "NO_SPACE"
    files = sorted(tiny_disk.iterdir())
    assert len(files) >= 3
    counts = [len(read(file).pts_s) for file in files]
    assert counts[:-1] == [25] * (len(files) - 1)
    assert sum(counts) > len(written) - 30


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(SinkError) as caught:
        SegmentedVideoSink(tmp_path / "absent" / "s.mp4", SECOND).open(context())
    assert caught.value.reason == "NOT_FOUND"


def test_no_frame_no_file(tmp_path):
    with SegmentedVideoSink(tmp_path / "s.mp4", SECOND) as sink:
        sink.open(context())
    assert list(tmp_path.iterdir()) == []
    assert sink.summary() is None


def test_options_say_what_is_allowed(tmp_path):
    with pytest.raises(UsageError, match="1 s or longer"):
        SegmentOptions(length_s=Fraction(1, 2))
    with pytest.raises(UsageError, match="at least 2"):
        SegmentOptions(length_s=Fraction(1), files=1)
    with pytest.raises(UsageError, match="goes with --segment"):
        segment_options(None, 3, ["a.mp4"])
    for outputs in ([], ["window"], ["-", "null"], ["f_%06d.png"]):
        with pytest.raises(UsageError, match="cuts video files"):
            segment_options(Fraction(60), None, outputs)
    assert segment_options(None, None, []) is None
    for output in ("a.mp4", "file://x/A.MKV", str(tmp_path)):
        assert segment_options(Fraction(60), 5, ["null", output]).files == 5


def test_the_picture_before_a_cut_lasts_until_the_next_file_begins(tmp_path):
    pts = [0, 25 * TICKS, 55 * TICKS, 75 * TICKS, 300 * 25 * TICKS]
    with SegmentedVideoSink(tmp_path / "s.mp4", SegmentOptions(length_s=Fraction(2))) as sink:
        sink.open(context())
        write_frames(sink, 5, pts=pts)
    lengths = []
    for path in sorted(tmp_path.glob("s*.mp4")):
        with av.open(str(path)) as container:
            lengths.append(container.duration / 1e6)
    # From 0 to 2.2 s, from there to 4 s; the pause of 296 s is in no file.
    assert lengths[:2] == pytest.approx([2.2, 1.8], abs=0.01)
    assert len(lengths) == 3


@pytest.mark.parametrize("live", [True, False])
def test_a_live_recording_says_when_each_file_begins(tmp_path, live):
    items = list(rendered(60))
    with SegmentedVideoSink(tmp_path / "s.mp4", SECOND) as sink:
        record(sink, context(live=live), items)
    summary = sink.summary()
    firsts = [utc_text(items[n].frame.captured_at) for n in (0, 25, 50)]
    begun = [one["begun_at"] for one in summary.details["segments"]]
    assert begun == (firsts if live else [None] * 3)
    assert all(
        (first in line) == live for first, line in zip(firsts, summary.lines[1:], strict=True)
    )
