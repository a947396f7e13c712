from __future__ import annotations

import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.ports import ImageInput, Port, choose_input, choose_output

F = "float32"
IMAGE = ImageInput("image", F, "nchw", 512, 1024)


@pytest.mark.parametrize(
    ("port", "size", "expected"),
    [
        (Port("x", F, (1, 3, 512, 1024)), None, ("nchw", 512, 1024)),
        (Port("x", F, (None, 3, None, None)), None, ("nchw", 512, 512)),
        (Port("x", F, (None, 3, None, None)), (640, 352), ("nchw", 352, 640)),
        (Port("x", F, (1, 3, None, 640)), None, ("nchw", 512, 640)),
        (Port("x", "float16", (1, 320, 640, 3)), None, ("nhwc", 320, 640)),
        (Port("x", "uint8", (None, None, None, 3)), (64, 32), ("nhwc", 32, 64)),
        (Port("x", F, (None, None, None, None)), None, ("nchw", 512, 512)),
        (Port("x", F, (1, 3, 3, 3)), None, ("nchw", 3, 3)),
    ],
)
def test_the_picture_input(
    port: Port, size: tuple[int, int] | None, expected: tuple[str, int, int]
) -> None:
    found = choose_input([port], size)
    assert (found.layout, found.height, found.width) == expected
    assert found.name == "x"


@pytest.mark.parametrize(
    ("ports", "reason"),
    [
        ([], "ENGINE_UNSUPPORTED"),
        ([Port("x", F, (1, 1, 28, 28))], "ENGINE_UNSUPPORTED"),
        ([Port("x", F, (1, 768))], "ENGINE_UNSUPPORTED"),
        ([Port("x", F, (3, 512, 512))], "ENGINE_UNSUPPORTED"),
        ([Port("x", F, (1, 3, 8, 224, 224))], "ENGINE_UNSUPPORTED"),
        ([Port("x", F, None)], "ENGINE_UNSUPPORTED"),
        ([Port("ids", "int64", (1, 3, 20, 20))], "ENGINE_UNSUPPORTED"),
        ([Port("x", F, (1, 3, 8, 8)), Port("size", "int64", (2,))], "ENGINE_UNSUPPORTED"),
    ],
)
def test_no_picture_input_is_an_error_that_lists_the_inputs(ports: list[Port], reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        choose_input(ports)
    assert caught.value.reason == reason
    assert all(str(port) in str(caught.value) for port in ports)


def test_a_fixed_size_cannot_be_changed() -> None:
    with pytest.raises(EngineError, match=r"fixed at 1024x512.*Received: 512x512") as caught:
        choose_input([Port("x", F, (1, 3, 512, 1024))], (512, 512))
    assert caught.value.reason == "ENGINE_MISMATCH"
    with pytest.raises(EngineError, match=r"Received: 0x5"):
        choose_input([Port("x", F, (1, 3, None, None))], (0, 5))


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([Port("y", F, (1, 19, 512, 1024))], ("y", "logits", "nchw", 19)),
        ([Port("y", F, (1, 19, 64, 128))], ("y", "logits", "nchw", 19)),
        ([Port("y", F, (1, 65, 129, 21))], ("y", "logits", "nhwc", 21)),
        ([Port("y", "int64", (1, 512, 1024))], ("y", "labels", "nchw", 0)),
        ([Port("y", "int32", (1, 1, 128, 256))], ("y", "labels", "nchw", 0)),
        ([Port("y", "uint8", (1, 512, 1024, 1))], ("y", "labels", "nchw", 0)),
        ([Port("y", F, (1, 8, 33, 65))], ("y", "logits", "nchw", 8)),  # rounded up
        ([Port("y", F, (1, 8, 15, 31))], ("y", "logits", "nchw", 8)),  # rounded down
        (  # auxiliary heads: the finest grid
            [Port("a", F, (1, 19, 64, 128)), Port("b", F, (1, 19, 128, 256))],
            ("b", "logits", "nchw", 19),
        ),
        (  # same grid: scores, from which NaN shows
            [Port("ids", "int64", (1, 128, 256)), Port("y", F, (1, 19, 128, 256))],
            ("y", "logits", "nchw", 19),
        ),
        (  # torchvision's out and aux
            [Port("out", F, (1, 21, 512, 1024)), Port("aux", F, (1, 21, 512, 1024))],
            ("out", "logits", "nchw", 21),
        ),
        # no axis for the batch, for a single channel, or for either
        ([Port("y", F, (19, 64, 128))], ("y", "logits", "nchw", 19)),
        ([Port("y", F, (64, 128, 19))], ("y", "logits", "nhwc", 19)),
        ([Port("y", F, (1, 512, 1024))], ("y", "logits", "nchw", 1)),
        ([Port("y", F, (None, 512, 1024))], ("y", "logits", "nchw", 1)),
        ([Port("y", F, (512, 1024))], ("y", "logits", "nchw", 1)),
        ([Port("y", "uint8", (512, 1024))], ("y", "labels", "nchw", 0)),
        ([Port("y", "uint8", (512, 1024, 1))], ("y", "labels", "nchw", 0)),
        (  # a class head beside it
            [Port("class", F, (1, 19)), Port("y", F, (1, 19, 64, 128))],
            ("y", "logits", "nchw", 19),
        ),
    ],
)
def test_the_segmentation_output(ports: list[Port], expected: tuple[str, str, str, int]) -> None:
    found = choose_output(ports, IMAGE)
    assert (found.name, found.kind, found.layout, found.channels) == expected


@pytest.mark.parametrize(
    ("shape", "layout"), [((1, 5, 5, 4), "nhwc"), ((1, 4, 5, 5), "nchw"), ((1, 5, 5, 5), "nchw")]
)
def test_the_layout_whose_grid_is_the_pictures_is_taken(
    shape: tuple[int, ...], layout: str
) -> None:
    image = ImageInput("image", F, "nchw", 5, 5)
    assert choose_output([Port("y", F, shape)], image).layout == layout


@pytest.mark.parametrize(
    "ports",
    [
        [Port("class", F, (1, 1000))],
        [Port("features", F, (1, 2048, 16, 32))],
        [Port("pooled", F, (1, 64, 1, 1))],
        [Port("pooled", F, (1, 1, 4, 8))],
        [Port("boxes", F, (1, 84, 8400))],
        [Port("boxes", F, (8400, 84))],
        [Port("token", F, (1, 512, 768))],
        [Port("instances", "int64", (5, 512, 1024))],
        [Port("boxes", F, (1, 116, 8400)), Port("prototypes", F, (1, 32, 128, 256))],
        [Port("rank", F, None)],
        [Port("square", F, (1, 19, 512, 512))],
    ],
)
def test_no_segmentation_is_an_error_that_lists_the_outputs(ports: list[Port]) -> None:
    with pytest.raises(EngineError) as caught:
        choose_output(ports, IMAGE)
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert all(str(port) in str(caught.value) for port in ports)


def test_masks_of_queries_are_no_classes() -> None:
    ports = [Port("classes", F, (1, 100, 20)), Port("masks", F, (1, 100, 128, 256))]
    with pytest.raises(EngineError, match="masks has a mask for each query") as caught:
        choose_output(ports, IMAGE)
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert choose_output(ports, IMAGE, "masks").channels == 100  # whoever names it knows


@pytest.mark.parametrize("features", [[], [Port("features", F, (1, 64, 16, 32))]])
def test_a_hidden_state_beside_scores_is_no_query(features: list[Port]) -> None:
    ports = [Port("hidden", F, (1, 64, 32)), Port("scores", F, (1, 19, 128, 256)), *features]
    assert choose_output(ports, IMAGE).name == "scores"


def test_yes_and_no_are_ids() -> None:
    found = choose_output([Port("mask", "bool", (1, 1, 512, 1024))], IMAGE)
    assert (found.kind, found.dtype) == ("labels", "bool")


def test_the_user_may_name_input_and_output() -> None:
    ports = [Port("a", F, (1, 19, 64, 128)), Port("b", F, (1, 19, 128, 256))]
    assert choose_output(ports, IMAGE, "a").name == "a"
    with pytest.raises(EngineError, match="no output 'c'"):
        choose_output(ports, IMAGE, "c")
    with pytest.raises(EngineError, match="no input 'c'"):
        choose_input([Port("x", F, (1, 3, 8, 8))], None, "c")
