from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import Frame
from rtseg.realtime.hud import HudText
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.view import MAX_WIDTH_PX, VIEWS, ViewOptions, picture_size
from rtseg.realtime.yuv import planes_420

BT709, BT601, BT2020 = 1, 6, 9
WEIGHTS = {BT709: (0.2126, 0.7152, 0.0722), BT601: (0.299, 0.587, 0.114),
           BT2020: (0.2627, 0.678, 0.0593)}  # fmt: skip


def to_rgb(yuv, matrix, full):
    """Decode Y'CbCr numbers by the equations of H.273; independent of the code under test."""
    red, green, blue = WEIGHTS[matrix]
    y, cb, cr = (yuv[..., i].astype(np.float64) for i in range(3))
    if full:
        y, cb, cr = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    r = y + 2 * (1 - red) * cr
    b = y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / green
    return np.stack([r, g, b], axis=-1) * 255


def noise(width, height, *, name="yuv420p", matrix=BT709, full=False, seed=0):
    random = np.random.default_rng(seed)
    frame = av.VideoFrame(width, height, name)
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = random.integers(
            40, 200, plane.buffer_size, dtype=np.uint8
        )
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


def pixels(picture):
    """A picture as H×W×3 Y'CbCr numbers, chroma repeated."""
    y, u, v = planes_420(picture)
    return np.stack([y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1)], axis=-1)


def padded(video):
    y, u, v = planes_420(video)
    y = np.pad(y, ((0, y.shape[0] % 2), (0, y.shape[1] % 2)), mode="edge")
    return np.stack([y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1)], axis=-1)


def wrap(video, pts=7):
    return Frame(0, video, pts, Fraction(1001, 30000))


def render(video, labels, **view):
    return Renderer(CITYSCAPES, ViewOptions(**view)).render(wrap(video), labels)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [BT709, BT601, BT2020])
@pytest.mark.parametrize("name", ["yuv420p", "nv12"])
def test_overlay_is_the_blend_in_rgb(name, matrix, full):
    video = noise(64, 48, name=name, matrix=matrix, full=full)
    labels = np.arange(19, dtype=np.uint8)[None, :].repeat(4, 0)
    picture = render(video, labels, alpha=0.4)
    assert (picture.width, picture.height, picture.format.name) == (64, 48, "yuv420p")
    assert (picture.colorspace, picture.color_range) == (matrix, 2 if full else 1)
    below = to_rgb(pixels_of(video), matrix, full)
    colours = np.array(CITYSCAPES.palette, np.float64)
    luma_ids, chroma_ids = scale_nearest(labels, 48, 64), scale_nearest(labels, 24, 32)
    agree = luma_ids == chroma_ids.repeat(2, 0).repeat(2, 1)
    wanted = 0.6 * below + 0.4 * colours[luma_ids]
    error = np.abs(to_rgb(pixels(picture), matrix, full) - wanted)
    # one step of each plane is up to 2.4 steps of a channel
    assert error[agree].max() < 4
    assert agree.mean() > 0.7


def pixels_of(video):
    y, u, v = planes_420(video)
    return np.stack([y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1)], axis=-1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [BT709, BT601, BT2020])
def test_mask_has_the_colours_of_the_palette(matrix, full):
    video = noise(76, 8, matrix=matrix, full=full)
    labels = np.arange(19, dtype=np.uint8)[None, :]
    picture = render(video, labels, view="mask")
    rgb = to_rgb(pixels(picture), matrix, full)[4, 1::4]
    assert np.abs(rgb - np.array(CITYSCAPES.palette)).max() < 2.5


def test_mask_is_black_where_there_is_no_class():
    labels = np.array([[0, 255], [255, 200]], np.uint8)
    picture = render(noise(8, 8), labels, view="mask")
    rgb = to_rgb(pixels(picture), BT709, False)
    assert np.abs(rgb[:, 4:]).max() < 1
    assert np.abs(rgb[:4, :4] - CITYSCAPES.palette[0]).max() < 2.5
    assert np.abs(rgb[4:]).max() < 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 50), st.integers(1, 50), st.integers(1, 60), st.integers(1, 60),
    st.sampled_from(VIEWS), st.integers(0, 99),
)  # fmt: skip
def test_every_size_and_view(width, height, label_width, label_height, view, seed):
    video = noise(width, height, seed=seed)
    before = [bytes(plane) for plane in video.planes]
    labels = np.random.default_rng(seed).integers(0, 19, (label_height, label_width), np.uint8)
    renderer = Renderer(CITYSCAPES, ViewOptions(view=view))
    picture = renderer.render(wrap(video), labels)
    assert [bytes(plane) for plane in video.planes] == before
    assert (picture.width, picture.height) == renderer.output_size(width, height)
    assert picture.width % 2 == 0
    assert picture.height % 2 == 0
    assert (picture.pts, picture.time_base) == (7, Fraction(1001, 30000))
    source = padded(video)
    made = pixels(picture)
    if view == "input":
        assert np.array_equal(made, source)
    if view == "side-by-side":
        assert np.array_equal(made[:, : made.shape[1] // 2], source)
        overlay = pixels(render(video, labels))
        assert np.array_equal(made[:, made.shape[1] // 2 :], overlay)
    if view in ("overlay", "mask"):
        # luma is exact: nearest ids, table, blend
        ids = scale_nearest(labels, height, width)
        table = class_lumas()
        alpha = 1.0 if view == "mask" else 0.5
        wanted = (1 - alpha) * source[:height, :width, 0] + alpha * table[ids]
        assert np.abs(made[:height, :width, 0] - wanted).max() <= 0.51


def class_lumas():
    red, green, blue = WEIGHTS[BT709]
    rgb = np.array(CITYSCAPES.palette, np.float64)
    return np.rint(16 + 219 * (rgb @ [red, green, blue]) / 255)


def test_odd_frames_keep_every_pixel_and_repeat_the_last():
    video = noise(7, 5)
    made = pixels(render(video, np.zeros((1, 1), np.uint8), view="input"))
    assert made.shape == (6, 8, 3)
    assert np.array_equal(made[:5, :7, 0], planes_420(video)[0])
    assert np.array_equal(made[:, 7, 0], made[:, 6, 0])
    assert np.array_equal(made[5, :, 0], made[4, :, 0])


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_classes": (3,)},
        {"classes": tuple(i for i in range(19) if i != 3)},
        {"ignore_classes": (3,), "alpha": 1.0},
    ],
)
def test_classes_left_out_show_the_frame(options):
    labels = np.full((6, 8), 3, np.uint8)
    labels[:, 4:] = 5
    video = noise(32, 24)
    made, source = pixels(render(video, labels, **options)), pixels_of(video)
    assert np.array_equal(made[:, :16], source[:, :16])
    assert not np.array_equal(made[:, 16:], source[:, 16:])


@pytest.mark.parametrize("alpha", [0.7, 1.0])
def test_pixels_without_a_class_show_the_frame(alpha):
    labels = np.full((6, 8), 255, np.uint8)
    labels[:, 4:] = 5
    video = noise(32, 24)
    made, source = pixels(render(video, labels, alpha=alpha)), pixels_of(video)
    assert np.array_equal(made[:, :16], source[:, :16])
    assert not np.array_equal(made[:, 16:], source[:, 16:])


def test_alpha_zero_is_the_frame_and_one_the_colours():
    video, labels = noise(32, 24), np.full((6, 8), 2, np.uint8)
    assert np.array_equal(pixels(render(video, labels, alpha=0.0)), pixels_of(video))
    mask = render(video, labels, view="mask")
    assert np.array_equal(pixels(render(video, labels, alpha=1.0)), pixels(mask))


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("yuv422p", False), ("yuv444p", True), ("yuv420p10le", False), ("rgb24", False),
        ("bgra", False), ("gray", True), ("gbrp", False), ("yuyv422", False), ("p010le", False),
        ("yuv422p10le", True),
    ],
)  # fmt: skip
def test_other_formats_keep_their_picture(name, full):
    """A gray-to-colour picture through every format: the input view shows the same RGB."""
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[:, :16], rgb[:, 16:32], rgb[:, 32:] = (200, 60, 40), (40, 180, 90), (120, 120, 120)
    if name == "gray":
        rgb[:] = rgb.mean(axis=(0, 1)).astype(np.uint8).mean().astype(np.uint8)
        video = av.VideoFrame.from_ndarray(rgb[..., 0], format="gray")
    else:
        video = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        if name != "rgb24":
            video = video.reformat(
                format=name, dst_colorspace="ITU709", src_color_range="JPEG",
                dst_color_range="JPEG" if full or video.format.is_rgb is False else "MPEG",
            ) if not name.startswith(("bgra", "gbrp")) else video.reformat(format=name)  # fmt: skip
    picture = render(video, np.zeros((1, 1), np.uint8), view="input")
    assert picture.format.name == "yuv420p"
    matrix = picture.colorspace
    shown = to_rgb(pixels(picture), BT601 if matrix in (5, 6) else matrix, picture.color_range == 2)
    for column in (8, 24, 40):
        assert np.abs(shown[16, column] - rgb[16, column]).max() < 5, (name, shown[16, column])


def test_a_frame_without_a_matrix_gets_the_one_players_assume():
    small, large = noise(64, 48, matrix=2), noise(1280, 720, matrix=2)
    labels = np.zeros((1, 1), np.uint8)
    assert render(small, labels).colorspace == BT601
    assert render(large, labels).colorspace == BT709
    # and keeps it when the picture becomes wider
    assert render(noise(640, 360, matrix=2), labels, view="side-by-side").colorspace == BT601


def test_transfer_and_primaries_are_kept():
    video = noise(16, 16, matrix=BT2020)
    video.color_trc, video.color_primaries = 16, 9
    picture = render(video, np.zeros((1, 1), np.uint8))
    assert (picture.color_trc, picture.color_primaries) == (16, 9)


def test_yuvj_stays_full_range():
    video = noise(16, 16, name="yuvj420p", matrix=5, full=True)
    assert render(video, np.zeros((1, 1), np.uint8)).color_range == 2


def test_a_wide_frame_is_scaled_to_what_encoders_take():
    assert picture_size("side-by-side", 3840, 2160) == (7680, 2160)
    width, height = picture_size("side-by-side", 7680, 4320)
    assert (width, height) == (MAX_WIDTH_PX, 2304)
    picture = render(noise(5000, 20), np.zeros((1, 1), np.uint8), view="side-by-side")
    assert (picture.width, picture.height) == picture_size("side-by-side", 5000, 20)


def test_pictures_do_not_share_memory():
    renderer = Renderer(CITYSCAPES)
    first = renderer.render(wrap(noise(64, 48, seed=1)), np.zeros((2, 2), np.uint8))
    kept = bytes(first.planes[0])
    for seed in range(5):
        renderer.render(wrap(noise(64, 48, seed=seed)), np.full((2, 2), 3, np.uint8))
    assert bytes(first.planes[0]) == kept


def test_controls_change_the_view_while_it_runs():
    controls = Controls(ViewOptions(alpha=0.5), ("overlay", "input"))
    renderer = Renderer(CITYSCAPES, controls=controls)
    video, labels = noise(32, 24), np.zeros((2, 2), np.uint8)
    assert not np.array_equal(pixels(renderer.render(wrap(video), labels)), pixels_of(video))
    controls.press("tab")
    assert np.array_equal(pixels(renderer.render(wrap(video), labels)), pixels_of(video))


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8)])
def test_wrong_labels_are_refused(labels):
    with pytest.raises(ValueError, match=r"uint8 of shape H x W\. Received"):
        render(noise(8, 8), labels)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 60}, "did you mean 0.6?"),
        ({"alpha": 128}, "did you mean 0.5?"),
        ({"alpha": -0.1}, "0..1"),
        ({"alpha": float("nan")}, "0..1"),
        ({"view": "split"}, "overlay, mask, side-by-side, input"),
    ],
)
def test_view_options_say_what_is_allowed(options, says):
    with pytest.raises(UsageError, match=says.replace("?", r"\?").replace("..", r"\.\.")):
        ViewOptions(**options)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 200), st.integers(2, 200), st.booleans(), st.booleans())
def test_hud_and_legend_fit_any_size(width, height, legend, side_by_side):
    view = "side-by-side" if side_by_side else "overlay"
    options = ViewOptions(view=view, hud=True, legend=legend)
    renderer = Renderer(CITYSCAPES, options)
    video = noise(width, height)
    picture = renderer.render(
        wrap(video), np.zeros((3, 3), np.uint8), HudText(("12.3 fps", "latency 40 ms"))
    )
    assert (picture.width, picture.height) == renderer.output_size(width, height)
