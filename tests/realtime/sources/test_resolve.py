"""What a user types for a source, and what it is taken for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import SourceSpec, open_source, parse_source, source_of
from rtseg.realtime.sources.stream import StreamSource
from tests.media import make_images, make_video


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("0", "camera", "/dev/video0"),
        ("12", "camera", "/dev/video12"),
        ("camera0", "camera", "/dev/video0"),
        ("camera:3", "camera", "/dev/video3"),
        ("/dev/video7", "camera", "/dev/video7"),
        ("v4l2:///dev/video0", "camera", "/dev/video0"),
        ("v4l2:///dev/v4l/by-id/usb-cam", "camera", "/dev/v4l/by-id/usb-cam"),
        ("/dev/v4l/by-id/usb-cam", "camera", "/dev/v4l/by-id/usb-cam"),
        (
            "/dev/v4l/by-path/pci-0:14.0-usb-0:1:1.0",
            "camera",
            "/dev/v4l/by-path/pci-0:14.0-usb-0:1:1.0",
        ),
        ("/dev/null", "camera", "/dev/null"),
        ("rtsp://10.0.0.5:554/live", "stream", "rtsp://10.0.0.5:554/live"),
        ("RTSP://10.0.0.5/live", "stream", "RTSP://10.0.0.5/live"),
        ("rtsps://cam/live", "stream", "rtsps://cam/live"),
        ("rtmp://cam/app/key", "stream", "rtmp://cam/app/key"),
        ("http://cam/video.mjpg", "stream", "http://cam/video.mjpg"),
        ("https://cam/live.m3u8", "stream", "https://cam/live.m3u8"),
        ("udp://@:5000", "stream", "udp://@:5000"),
        ("udp://239.0.0.1:1234?fifo_size=1", "stream", "udp://239.0.0.1:1234?fifo_size=1"),
        ("tcp://127.0.0.1:9000?listen=1", "stream", "tcp://127.0.0.1:9000?listen=1"),
        ("srt://[::1]:9000", "stream", "srt://[::1]:9000"),
        ("-", "stdin", "-"),
        ("screen", "screen", ""),
        ("screen:1", "screen", "1"),
        ("testsrc", "lavfi", "testsrc=size=640x360:rate=30"),
        ("lavfi:color=red:size=32x32", "lavfi", "color=red:size=32x32"),
        ("frame_%06d.png", "images", "frame_%06d.png"),
        ("pictures/*.jpg", "images", "pictures/*.jpg"),
    ],
)
def test_forms(text: str, kind: str, target: str) -> None:
    spec = parse_source(text)
    assert (spec.kind, spec.target) == (kind, target)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = make_video(tmp_path / "my drive.mp4", 2)
    make_images(tmp_path / "frames", 1)
    (tmp_path / "0").write_bytes(video.read_bytes())
    (tmp_path / "a[1].mp4").write_bytes(video.read_bytes())
    url = "file://" + str(video).replace(" ", "%20")

    assert parse_source("my drive.mp4").kind == "file"
    assert parse_source(url) == SourceSpec("file", str(video), str(video))
    assert parse_source(url.replace("file://", "file://localhost")).target == str(video)
    assert parse_source("file:my%20drive.mp4").target == "my drive.mp4"
    assert parse_source("frames").kind == "images"
    assert parse_source("frames/frame_000000.png").kind == "images"
    assert parse_source("a[1].mp4").kind == "file", "an existing file is no glob"
    assert parse_source("0").kind == "camera"
    assert parse_source("./0").kind == "file"


def test_a_path_object_is_a_path_whatever_its_name(tmp_path: Path) -> None:
    path = make_video(tmp_path / "drive.mp4", 2)
    assert parse_source(path) == parse_source(str(path))
    assert parse_source(tmp_path).kind == "images"
    with open_source(path) as source:
        assert len(list(source.frames())) == 2
    with pytest.raises(SourceError) as caught:
        parse_source(Path("camera0"))
    assert caught.value.reason == "NOT_FOUND"


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path) -> None:
    make_video(tmp_path / "drive.mp4", 2)
    with pytest.raises(SourceError) as caught:
        parse_source(str(tmp_path / "drvie.mp4"))
    assert caught.value.reason == "NOT_FOUND"
    assert caught.value.exit_code == 1
    assert "near it: drive.mp4" in str(caught.value)


@pytest.mark.parametrize("text", ["", "  ", "webcam", "ftp://host/x.mp4", "lavfi:", "v4l2://cam"])
def test_an_unknown_form_lists_what_is_allowed(text: str) -> None:
    with pytest.raises((UsageError, SourceError)) as caught:
        parse_source(text)
    message = str(caught.value)
    assert "\n" not in message
    if text != "v4l2://cam":
        assert "lavfi:" in message
    if text not in ("lavfi:", "v4l2://cam"):
        assert "rtsp://" in message
        assert "camera0" in message


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("rtp://239.0.0.1:5004", "camera.sdp"),
        ("csi://0", "rpicam-vid -t 0 --inline -o - | rt-seg - --live"),
        ("v4l2src device=/dev/video0 ! videoconvert ! appsink", "fdsink | rt-seg - --live"),
    ],
)
def test_forms_of_other_tools_are_told_the_way_here(text: str, way: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(text)
    assert way in str(caught.value)
    assert str(caught.value).endswith(f"Received: {text}")


def test_an_sdp_file_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "front.sdp"
    path.write_text("v=0\n")
    for text in (str(path), f"file://{path}"):
        spec = parse_source(text)
        assert (spec.kind, spec.target) == ("stream", str(path))
    source = open_source(path, SourceOptions(reconnect=0))
    assert isinstance(source, StreamSource)
    assert source._stem == "front"
    with pytest.raises(SourceError) as caught:
        parse_source(str(tmp_path / "rear.sdp"))
    assert caught.value.reason == "NOT_FOUND"


@pytest.mark.parametrize("text", ["rtsp://", "rtsp:///live", "http://host:port/", "tcp://[::1"])
def test_an_incomplete_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_source(text)


@given(st.text(max_size=60) | st.text("0123456789camerscnt:/-.%d*?[]@", max_size=20))
@example("a\0b")
@example("x" * 5000)
@example("\ud800.mp4")
@example("file://\0")
@example("lavfi:\n")
@example("[")
@example("%d%d.png")
@example("screen:99999")
@example("999999")
def test_any_text_gives_a_spec_or_one_line(text: str) -> None:
    try:
        spec = parse_source(text)
    except (UsageError, SourceError) as error:
        said = str(error)
    else:
        assert isinstance(spec, SourceSpec)
        source_of(spec, SourceOptions())
        said = spec.name
    assert said.isprintable()
    assert len(said) < 1500


@pytest.mark.parametrize(
    ("typed", "escaped"),
    [
        ("a/b", "a%2Fb"),
        ("#1?", "%231%3F"),
        ("/", "%2F"),
        ("50%/x", "50%25%2Fx"),
        ("p%40ss#1", "p%40ss%231"),
        ("12/34", "12%2F34"),
        ("p@ss/w", "p%40ss%2Fw"),
        ("p@ss", "p@ss"),  # FFmpeg takes the last one before the path
        ("plain", "plain"),
    ],
)
def test_a_password_may_be_typed_as_it_is(typed: str, escaped: str) -> None:
    spec = parse_source(f"rtsp://admin:{typed}@10.0.0.5:554/live?x=1")
    assert spec.target == f"rtsp://admin:{escaped}@10.0.0.5:554/live?x=1"
    assert spec.name == "rtsp://***@10.0.0.5:554/live?x=1"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://u:p@camera/live@home",
        "rtsp://proxy:8554/rtsp://u:p@10.0.0.5/live",
        "rtsp://10.0.0.9:8554/relay@10.0.0.5",
        "http://host/a@2x.m3u8",
        "rtsp://host:554/live@home",
        "rtsp://[::1]:554/a@b",
        "udp://@:5000",
    ],
)
def test_an_at_sign_elsewhere_stays(address: str) -> None:
    assert parse_source(address).target == address


SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=6, max_size=20
)


@given(user=SECRETS, password=SECRETS, scheme=st.sampled_from(["rtsp", "https", "rtmp", "foo"]))
@example(user="admin1", password="p@ss/w:rd", scheme="rtsp")
@example(user="admin1", password="p%40ssword", scheme="rtsp")
@example(user="admin1", password="pass?word#", scheme="http")
def test_credentials_are_never_shown(user: str, password: str, scheme: str) -> None:
    text = f"{scheme}://{user}:{password}@10.0.0.5:554/live"
    said = shown(text)
    assert said == f"{scheme}://***@10.0.0.5:554/live"
    try:
        spec = parse_source(text)
    except (UsageError, SourceError) as error:
        said = str(error)
    else:
        said = f"{spec.name}{spec!r}"
        source = source_of(spec, SourceOptions())
        assert isinstance(source, StreamSource)
        said += source._stem
    assert f"{user}:{password}" not in said
    assert f":{password}@" not in said


def test_secrets_among_the_parameters_are_hidden() -> None:
    said = shown("http://cam/video?user=admin&password=hunter2&channel=1&access_token=abc#x")
    assert said == "http://cam/video?user=***&password=***&channel=1&access_token=***#x"
    assert shown("drive.mp4") == "drive.mp4"
    assert shown("udp://@:5000") == "udp://@:5000"
    assert shown("a\nb") == "a\\nb"


@given(st.text(max_size=120))
def test_a_stem_is_fit_for_a_file_name(text: str) -> None:
    stem = stem_of(text, "stream")
    assert stem
    assert len(stem) <= 80
    assert len(stem.encode()) <= 160
    assert not set(stem) & set('/\\:*?"<>| \n\0@%')


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("前", "前"),
        ("a\u0308 \u00f6#%d?", "\u00e4_\u00f6_d"),
        ("हिन्दी", "हिन्दी"),
        ("\udcff%04d", "04d"),
        ("前" * 90, "前" * 53),
        ("#?", "video"),
    ],
)
def test_letters_of_any_script_stay(text: str, stem: str) -> None:
    assert stem_of(text, "video") == stem


def test_stems(tmp_path: Path) -> None:
    path = make_video(tmp_path / "my drive.v2.mp4", 2)
    with open_source(str(path)) as source:
        assert source.info.stem == "my_drive.v2"
    with open_source(str(make_images(tmp_path / "pictures", 1))) as source:
        assert source.info.stem == "pictures"
    for url, stem in [
        ("rtsp://u:p@10.0.0.5/live/ch1.sdp", "ch1"),
        ("udp://239.0.0.1:5000", "239.0.0.1"),
        ("rtsp://u:p@cam/", "cam"),
    ]:
        source = open_source(url, SourceOptions(reconnect=0))
        assert isinstance(source, StreamSource)
        assert source._stem == stem


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_s": -1.0},
        {"duration_s": 0.0},
        {"duration_s": -2.0},
        {"loop": -1},
        {"width": 0, "height": 10},
        {"width": 640},
        {"fps": 0},
        {"fps": float("nan")},
        {"timeout_s": 0.0},
        {"start_s": float("inf")},
        {"rtsp_transport": "sctp"},
        {"threads": 0},
        {"hwaccel": ""},
        {"rotate": 45},
        {"input_format": "h265"},
        {"flip": "both"},
    ],
)
def test_senseless_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        SourceOptions(**wrong)  # type: ignore[arg-type]
    assert "Received" in str(caught.value)
    assert caught.value.exit_code == 2
