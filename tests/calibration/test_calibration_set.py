"""Which images are chosen for calibration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.calibration.calibration_set import read_frame, select_images
from rtseg.calibration.errors import CalibrationError
from rtseg.engines.fit import Fit
from tests.calibration.nets import save_images
from tests.data import needs_shared_data, shared_data
from tests.media import make_video, picture, white_corner, with_orientation

CITIES = {"aachen": 5, "bochum": 2, "jena": 9}


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cityscapes")
    for split, cities in (("train", CITIES), ("val", {"frankfurt": 3})):
        for city, count in cities.items():
            folder = root / "leftImg8bit" / split / city
            folder.mkdir(parents=True)
            for number in range(count):
                image = np.full((8, 16, 3), number * 20 + 5, np.uint8)
                name = f"{city}_000000_{number:06d}_leftImg8bit.png"
                assert cv2.imwrite(str(folder / name), image)
    return root


def cities_of(root: Path, count: int, seed: int = 0) -> Counter[str]:
    chosen = select_images(root, count, seed=seed)
    return Counter(image.path.parent.name for image in chosen.images)


def test_images_are_spread_over_cities(cityscapes: Path) -> None:
    assert cities_of(cityscapes, 6) == {"aachen": 2, "bochum": 2, "jena": 2}
    assert cities_of(cityscapes, 10) == {"aachen": 4, "bochum": 2, "jena": 4}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 20), seed=st.integers(0, 1000))
def test_choice_is_even_seeded_and_without_repeats(cityscapes: Path, count: int, seed: int) -> None:
    chosen = select_images(cityscapes, count, seed=seed)
    assert len(chosen) == min(count, 16) == len({image.name for image in chosen.images})
    assert chosen.available == 16
    assert chosen == select_images([str(cityscapes)], count, seed=seed)
    counts = Counter(image.path.parent.name for image in chosen.images)
    most = max(counts.values())
    assert all(counts[city] >= min(CITIES[city], most - 1) for city in CITIES)


def test_validation_cities_are_never_taken(cityscapes: Path, tmp_path: Path) -> None:
    assert "frankfurt" not in cities_of(cityscapes, 1000)
    (tmp_path / "frankfurt_000000_000294_leftImg8bit.png").write_bytes(
        next(cityscapes.rglob("*.png")).read_bytes()
    )
    with pytest.raises(CalibrationError) as caught:
        select_images(tmp_path)
    assert caught.value.reason == "NO_IMAGES"


def test_seed_changes_the_choice_and_the_hash(cityscapes: Path) -> None:
    first, second = (select_images(cityscapes, 4, seed=seed) for seed in (0, 1))
    assert first.images != second.images
    assert first.sha256() != second.sha256()


def test_hash_follows_content_and_not_place(tmp_path: Path) -> None:
    hashes = []
    for place in ("here", "there"):
        folder = save_images(tmp_path / place, 4)
        hashes.append(select_images(folder, 4).sha256())
    assert hashes[0] == hashes[1]
    changed = tmp_path / "there" / "street_002.png"
    assert cv2.imwrite(str(changed), np.zeros((8, 8, 3), np.uint8))
    assert select_images(tmp_path / "there", 4).sha256() != hashes[0]


def test_frames_have_the_engines_size_and_the_images_colour(tmp_path: Path) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 2] = 180  # OpenCV writes blue first: this is red
    assert cv2.imwrite(str(tmp_path / "red.png"), image)
    (frame,) = select_images(tmp_path).frames(16, 24)
    assert frame.shape == (16, 24, 3)
    assert frame[8, 8].tolist() == [180, 0, 0]


def test_subset_is_spread(cityscapes: Path) -> None:
    chosen = select_images(cityscapes, 16)
    few = chosen.subset(3)
    assert [image.path.parent.name for image in few.images] == ["aachen", "jena", "jena"]
    assert few.images[0] == chosen.images[0]
    assert few.images[-1] == chosen.images[-1]
    assert chosen.subset(99) is chosen


def test_several_sources_are_joined(cityscapes: Path, tmp_path: Path) -> None:
    folder = save_images(tmp_path / "own", 3)
    chosen = select_images([cityscapes, folder], 100)
    assert len(chosen) == 19


@needs_shared_data
def test_frames_of_a_video_are_those_of_its_decoder() -> None:
    import av

    from rtseg.engines.preprocess import to_engine_input

    video = shared_data("videos", "highway-720p.mp4")
    chosen = select_images(video, 5, seed=3)
    assert [image.frame for image in chosen.images] == sorted(
        image.frame for image in chosen.images if image.frame is not None
    )
    with av.open(str(video)) as container:
        decoded = list(container.decode(video=0))
    assert chosen.available == len(decoded)
    for image, frame in zip(chosen.images, chosen.frames(64, 64), strict=True):
        assert image.frame is not None
        np.testing.assert_array_equal(frame, to_engine_input(decoded[image.frame], 64, 64))


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [(b"", "empty.png", "BAD_DATA"), (b"not a picture at all", "text.jpg", "BAD_DATA")],
)
def test_an_unreadable_image_is_one_line(
    tmp_path: Path, content: bytes, name: str, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CalibrationError, match=name) as caught:
        list(select_images(tmp_path).frames(32, 32))
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_broken_images_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a run over the folder; another image comes in the place of each."""
    save_images(tmp_path, 6)
    whole = select_images(tmp_path, 4)
    assert not caplog.records
    broken = [whole.images[0].path, whole.images[2].path]
    broken[0].write_bytes(broken[0].read_bytes()[:60])
    broken[1].write_bytes(b"")
    chosen = select_images(tmp_path, 4)
    assert len(chosen) == len(list(chosen.frames(16, 16))) == chosen.available == 4
    assert not {image.path for image in chosen.images} & set(broken)
    (warning,) = caplog.messages
    assert "cannot be read: 2; the first: " in warning
    assert len(select_images(tmp_path, 100)) == 4


def test_a_folder_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(CalibrationError, match="none of the 2 images can be read") as caught:
        select_images(tmp_path)
    assert caught.value.reason == "BAD_DATA"


def test_a_folder_of_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "day").mkdir()
    for name in ("day/drive.mkv", "night.mkv"):
        save_video(tmp_path / name)
    assert len(select_images(tmp_path, 100)) == 12
    few = select_images(tmp_path, 4)
    assert Counter(image.name for image in few.images) == {"day/drive.mkv": 2, "night.mkv": 2}
    assert len(list(few.frames(16, 16))) == 4
    assert not caplog.records
    (tmp_path / "cut.mp4").write_bytes(b"")
    save_images(tmp_path / "day", 3)
    assert len(select_images(tmp_path, 100)) == 15
    assert "cannot be read: 1; the first: " in caplog.text
    assert "cut.mp4" in caplog.text


def test_what_cannot_be_chosen_from(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such calibration data") as caught:
        select_images(tmp_path / "absent")
    assert caught.value.reason == "NOT_FOUND"
    with pytest.raises(CalibrationError, match="no image for calibration") as caught:
        select_images(tmp_path)
    assert caught.value.reason == "NO_IMAGES"
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(CalibrationError, match="neither an image") as caught:
        select_images(tmp_path / "notes.txt")
    assert caught.value.reason == "BAD_DATA"
    with pytest.raises(CalibrationError, match="at least one") as caught:
        select_images(tmp_path, 0)
    assert caught.value.reason == "BAD_OPTION"


def save_video(path: Path, title: str = "") -> Path:
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            pixels = np.full((48, 64, 3), number * 40, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_what_is_named_twice_counts_once(tmp_path: Path) -> None:
    video = save_video(tmp_path / "drive.mkv")
    images = save_images(tmp_path / "images" / "below", 3)
    twice = [video, tmp_path / "images" / ".." / "drive.mkv", images.parent, images]
    chosen = select_images(twice, 100)
    assert chosen.available == len(chosen) == 9
    assert len(list(chosen.frames(8, 8))) == 9


def test_names_that_look_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_video(tmp_path / "drive.mkv").rename("12:30:00.mkv")
    next(save_images(tmp_path / "images", 1).iterdir()).rename("a:1.png")
    chosen = select_images(["12:30:00.mkv", Path("a:1.png")], 100)
    assert len(list(chosen.frames(8, 8))) == 7


def test_a_title_that_is_not_utf8(tmp_path: Path) -> None:
    video = save_video(tmp_path / "drive.mkv", "ABCDEFGH")
    video.write_bytes(video.read_bytes().replace(b"ABCDEFGH", b"caf\xe9 \xff\xfe "))
    assert len(select_images(video)) == 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_a_run_turns_them(tmp_path: Path, orientation: int) -> None:
    ok, jpeg = cv2.imencode(".jpg", picture(0, (96, 64)).to_ndarray(format="bgr24"))
    assert ok
    path = tmp_path / "phone.jpg"
    path.write_bytes(with_orientation(jpeg.tobytes(), orientation))
    expected = cv2.imread(str(path))
    assert expected is not None
    frame = read_frame(path)
    assert (frame.height, frame.width) == expected.shape[:2]
    assert white_corner(frame) == white_corner(type(frame).from_ndarray(expected, format="bgr24"))


def test_videos_are_turned_as_a_run_turns_them(tmp_path: Path) -> None:
    path = make_video(tmp_path / "phone.mp4", 1, rotation=90)
    (turned,) = select_images(path, 1).frames(64, 64)
    (stored,) = select_images(make_video(tmp_path / "desk.mp4", 1), 1).frames(64, 64)
    # The white block lies top left in the stored picture, bottom left in the upright one.
    assert stored[:8, :8].mean() > 200 > stored[-8:, :8].mean()
    assert turned[-8:, :8].mean() > 200 > turned[:8, :8].mean()


@pytest.mark.parametrize(
    ("aspect", "rotation", "gray_columns", "gray_rows"),
    [(1, 0, 32, 0), (2, 0, 0, 0), (1, 90, 0, 32), (2, 90, 0, 0)],
)
def test_videos_with_pixels_that_are_not_square(
    tmp_path: Path, aspect: int, rotation: int, gray_columns: int, gray_rows: int
) -> None:
    path = make_video(tmp_path / "dvr.mp4", 1, (32, 64), pixel_aspect=aspect, rotation=rotation)
    (pixels,) = select_images(path, 1).frames(64, 64, Fit(7))
    gray = (pixels == 7).all(2)
    assert (gray.all(0).sum(), gray.all(1).sum()) == (gray_columns, gray_rows)
