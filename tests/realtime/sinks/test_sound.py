"""Which packets of sound go with which picture, and in which form."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.realtime.sinks.network import parse_network
from rtseg.realtime.sinks.sound import BEHIND_S, MAX_PACKETS, SoundFeed, open_feed
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.templates import read_template
from tests.realtime.sinks.sounding import make


@pytest.mark.parametrize(
    ("codec", "rate", "scheme", "why"),
    [
        ("libopus", 48_000, "rtmp", "rtmp takes aac, mp3. Received: opus"),
        ("libmp3lame", 48_000, "rtmp", "11025, 22050, 44100 Hz. Received: 48000 Hz"),
        ("flac", 48_000, "rtsp", "pcm_alaw. Received: flac"),
        ("flac", 48_000, "udp", "Received: flac"),
        ("libopus", 48_000, "rtsp", None),
        ("libmp3lame", 44_100, "rtmp", None),
        ("ac3", 48_000, "udp", None),
    ],
)
def test_sound_that_cannot_go_is_left_out_with_a_line(codec, rate, scheme, why, tmp_path, caplog):
    source = make(tmp_path / "short.mkv", codec, length_s=1, rate=rate)
    address = parse_network(f"{scheme}://user:s3cret@127.0.0.1:9/live/cam")
    with open_source(str(source)) as opened:
        feed = open_feed(opened.open().passthrough, address)
    assert (feed is None) == (why is not None)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (why is not None)
    if why is not None:
        assert said[0].startswith(f"{address.shown}: the sound is left out: ")
        assert said[0].endswith(why)
        assert "s3cret" not in said[0]


def test_sound_of_an_unknown_codec_is_left_out_with_a_line(tmp_path, caplog):
    source = make(tmp_path / "short.mkv", "aac", length_s=1)
    source.write_bytes(source.read_bytes().replace(b"A_AAC", b"A_XYZ"))
    with open_source(str(source)) as opened:
        assert open_feed(opened.open().passthrough, parse_network("udp://127.0.0.1:9")) is None
    assert "the sound is left out: its codec is unknown" in caplog.text


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return make(tmp_path_factory.mktemp("short") / "drive.mp4", length_s=1)


class Fed:
    """A feed, and packets of 20 ms for it, numbered from 0 s."""

    def __init__(self, path):
        self._file = av.open(str(path))
        self._stream = self._file.streams.audio[0]
        self.feed = SoundFeed(self._stream)

    def offer(self, numbers, picture_s):
        self.feed.offer([self.packet(number) for number in numbers])
        self.feed.forget(Fraction(picture_s) - BEHIND_S)

    def packet(self, number):
        packet = av.Packet(number.to_bytes(4, "big"))
        packet.stream = self._stream
        packet.pts = packet.dts = number * 20
        packet.time_base, packet.duration = Fraction(1, 1000), 20
        return packet

    def take(self, until_s, origin_s=0):
        taken = self.feed.take(Fraction(until_s), Fraction(origin_s))
        after = [] if taken.after is None else [taken.after]
        for packet in (*taken.before, *after):
            number = int.from_bytes(bytes(packet), "big")
            assert packet.pts * packet.time_base == Fraction(number, 50) - origin_s
        return [[int.from_bytes(bytes(p), "big") for p in part] for part in (taken.before, after)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def test_a_picture_takes_the_sound_before_it_and_one_packet_behind_it(short):
    with Fed(short) as fed:
        fed.offer(range(10), 0)
        assert fed.take(0) == [[], [0]]
        assert fed.take("0.08") == [[1, 2, 3], [4]]
        assert fed.take("0.09") == [[], [5]]
        assert fed.take(1, origin_s=Fraction(1, 100)) == [[6, 7, 8, 9], []]
        assert fed.take(2) == [[], []]


def test_a_connection_begins_with_the_sound_of_its_first_picture(short):
    with Fed(short) as fed:
        fed.offer(range(50), "0.5")
        fed.feed.begin()
        assert fed.take("0.5") == [[], [25]]
        fed.feed.begin()
        assert fed.take("0.6") == [[], [30]]
        assert fed.feed.left_out == 25 + 4


def test_sound_of_pictures_left_out_is_left_out(short):
    with Fed(short) as fed:
        fed.feed.begin()
        fed.offer([0], 0)
        assert fed.take(0) == [[], [0]]
        for second in range(1, 60):  # no picture goes for a minute
            fed.offer(range(second * 50, second * 50 + 50), second + 1)
        first = 59 * 50
        assert fed.take(60) == [list(range(first, first + 50)), []]
        assert float(BEHIND_S) == 1


def test_sound_read_far_ahead_is_bounded(short):
    with Fed(short) as fed:
        fed.offer(range(3 * MAX_PACKETS), 0)
        assert fed.feed.left_out == 2 * MAX_PACKETS
        assert fed.take(0) == [[], [0]]
        before, after = fed.take(10_000)
        assert (len(before), after) == (MAX_PACKETS - 1, [])


def test_what_is_heard_early_and_comes_again_with_its_picture_goes_once(short):
    with Fed(short) as fed:
        fed.offer(range(8), 0)
        fed.offer(range(4), 0)
        assert fed.take("0.05") == [[], [3]]
        fed.offer(range(3, 12), 0)
        assert fed.take("0.2") == [list(range(4, 10)), [10]]


@given(st.lists(st.tuples(st.lists(st.integers(0, 500), max_size=30), st.integers(0, 500))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_comes_goes_out_in_order_and_in_time(short, steps):
    with Fed(short) as fed:
        sent = []
        for numbers, picture in steps:
            fed.offer(numbers, Fraction(picture, 50))
            before, after = fed.take(Fraction(picture, 50))
            assert all(number < picture for number in before)
            sent += before + after
        assert sent == sorted(set(sent))
        offered = {number for numbers, _ in steps for number in numbers}
        assert offered >= set(sent)


def test_aac_of_mpeg_ts_goes_without_its_headers(tmp_path):
    """Containers other than MPEG-TS want one description of the stream instead."""
    source = make(tmp_path / "drive.mp4", length_s=1)
    stream = tmp_path / "drive.ts"
    with av.open(str(source)) as file, av.open(str(stream), "w") as out:
        kept = {s.index: out.add_stream_from_template(s, opaque=True) for s in file.streams}
        expected = []
        for packet in file.demux():
            if packet.size:
                if packet.stream.type == "audio":
                    expected.append(bytes(packet))
                packet.stream = kept[packet.stream.index]
                out.mux(packet)
        config = file.streams.audio[0].codec_context.extradata
    with av.open(str(stream)) as file:
        sound = file.streams.audio[0]
        feed = SoundFeed(sound)
        feed.offer([p for p in file.demux(sound) if p.size])
        first = feed.take(Fraction(0), Fraction(0)).after
        taken = feed.take(Fraction(100), Fraction(0))
    assert first is not None
    got = [bytes(packet) for packet in (first, *taken.before)]
    assert len(got) > 40
    assert got == expected[-len(got) :]
    with read_template(feed.header) as template:
        assert template.codec_context.extradata == config[:2]
