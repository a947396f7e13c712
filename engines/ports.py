"""Which input of a network is the picture, and which output the segmentation.

Nothing here knows a runtime: a network is two lists of :class:`Port`. An ONNX file and an
OpenVINO IR are judged by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rtseg.engines.errors import EngineError
from rtseg.engines.labels import VOID_ID

DEFAULT_SIZE = (512, 512)
"""Width and height for a network that takes any size, in pixels."""

Layout = Literal["nchw", "nhwc"]
OutputKind = Literal["logits", "labels"]

_FLOATS = ("float32", "float16", "float64", "bfloat16")
_FEWEST_QUERIES = 8
_COARSEST = 32  # stride of the coarsest grid in which a single channel is a segmentation
_INTEGERS = ("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@dataclass(frozen=True)
class Port:
    """An input or output of a network.

    Attributes:
        name: its name in the file.
        dtype: numpy's name of the element type.
        shape: length of each axis, None where it is not fixed; None if not even the
            number of axes is known.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        axes = (
            "?"
            if self.shape is None
            else "x".join("?" if n is None else str(n) for n in self.shape)
        )
        return f"{self.name} {self.dtype} {axes or 'scalar'}"


@dataclass(frozen=True)
class ImageInput:
    """The picture input of a network, its size settled; height and width in pixels."""

    name: str
    dtype: str
    layout: Layout
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The input's shape for one frame."""
        if self.layout == "nchw":
            return 1, 3, self.height, self.width
        return 1, self.height, self.width, 3


@dataclass(frozen=True)
class SegmentationOutput:
    """The output that says what each pixel is.

    Attributes:
        name: its name in the file.
        dtype: numpy's name of the element type.
        kind: ``logits`` (one score a class) or ``labels`` (class ids).
        layout: order of the axes; of no meaning for labels.
        channels: number of scores a pixel; 0 for labels. A single one is the score of the second
            of two classes.
        height: rows of the output, in its own pixels.
        width: columns of the output, in its own pixels.
        axes: how many the output has: four, or fewer where the file leaves out the batch's or a
            single channel's.
    """

    name: str
    dtype: str
    kind: OutputKind
    layout: Layout
    channels: int
    height: int
    width: int
    axes: int = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the scores of one picture, with all four axes."""
        if self.layout == "nchw":
            return 1, self.channels, self.height, self.width
        return 1, self.height, self.width, self.channels


_SCORE_LAYOUTS: dict[int, dict[int, Layout]] = {
    4: {1: "nchw", 3: "nhwc"},
    3: {0: "nchw", 2: "nhwc"},  # without the batch's axis
}


def score_layout(axes: int, axis: int) -> Layout | None:
    """Return the layout of scores whose maximum is taken along an axis; None where it is no class.

    Args:
        axes: how many the scores have.
        axis: which one, counted from the last where below zero.
    """
    return _SCORE_LAYOUTS.get(axes, {}).get(axis % max(axes, 1))


def list_ports(ports: Sequence[Port]) -> str:
    """Return the ports as one line for a message."""
    return ", ".join(str(port) for port in ports) or "none"


def choose_input(
    ports: Sequence[Port], size: tuple[int, int] | None = None, name: str | None = None
) -> ImageInput:
    """Find the picture input and settle its size.

    Args:
        ports: the inputs of the network.
        size: width and height asked for, or None: the file's own, else 512×512.
        name: the input to take, where the user named it.

    Raises:
        EngineError: no input, or more than one, could be a picture; or the network's size
            is fixed and another one was asked for.
    """
    if name is not None and all(port.name != name for port in ports):
        raise EngineError(
            f"the network has no input {name!r}. Inputs: {list_ports(ports)}", reason="BAD_INPUT"
        )
    if len(ports) != 1:
        raise EngineError(
            "a segmentation network takes one picture and nothing else. "
            f"Inputs: {list_ports(ports)}",
            reason="ENGINE_UNSUPPORTED",
        )
    port = ports[0]
    layout = _image_layout(port)
    if layout is None or port.dtype not in (*_FLOATS, "uint8"):
        raise EngineError(
            "the network has no picture input (float or uint8, Nx3xHxW or NxHxWx3). "
            f"Inputs: {list_ports(ports)}",
            reason="ENGINE_UNSUPPORTED",
        )
    assert port.shape is not None
    rows, columns = port.shape[2:] if layout == "nchw" else port.shape[1:3]
    wanted_width, wanted_height = size or (columns or DEFAULT_SIZE[0], rows or DEFAULT_SIZE[1])
    if wanted_width < 1 or wanted_height < 1:
        raise EngineError(
            f"a size is at least 1x1. Received: {wanted_width}x{wanted_height}", reason="BAD_INPUT"
        )
    if (rows or wanted_height) != wanted_height or (columns or wanted_width) != wanted_width:
        raise EngineError(
            f"the network's input is fixed at {columns or '?'}x{rows or '?'} (width x height). "
            f"Received: {wanted_width}x{wanted_height}",
            reason="ENGINE_MISMATCH",
        )
    return ImageInput(port.name, port.dtype, layout, wanted_height, wanted_width)


def _image_layout(port: Port) -> Layout | None:
    if port.shape is None or len(port.shape) != 4:
        return None
    if port.shape[1] == 3:
        return "nchw"
    if port.shape[3] == 3:
        return "nhwc"
    if port.shape[1] is None:  # nothing said: the layout of PyTorch, where most files come from
        return "nchw"
    return None


def choose_output(
    ports: Sequence[Port], image: ImageInput, name: str | None = None
) -> SegmentationOutput:
    """Find the output that is a segmentation of the picture.

    Of several (auxiliary heads) the one with the finest grid is taken, then scores before
    class ids, then the first; a single score a pixel, which may be a depth or a confidence,
    only where there is nothing else.

    Args:
        ports: the outputs of the network, for the size of ``image``.
        image: the picture input.
        name: the output to take, where the user named it.

    Raises:
        EngineError: none is a segmentation; the message lists them.
    """
    chosen = [port for port in ports if name is None or port.name == name]
    if not chosen:
        raise EngineError(
            f"the network has no output {name!r}. Outputs: {list_ports(ports)}", reason="BAD_INPUT"
        )
    if name is None and any(_is_box_list(port) for port in ports):
        raise EngineError(
            "this looks like a detection network, not a segmentation network; where an output "
            'is one, name it in MODEL_FILE.json: {"output": NAME}. '
            f"Outputs: {list_ports(ports)}",
            reason="ENGINE_UNSUPPORTED",
        )
    found = [output for port in chosen if (output := _segmentation(port, image)) is not None]
    if not found:
        raise EngineError(
            "no output is a segmentation (scores NxCxhxw or NxhxwxC with 1 to "
            f"{VOID_ID} channels, or class ids Nxhxw). Outputs: {list_ports(chosen)}",
            reason="ENGINE_UNSUPPORTED",
        )
    best = max(
        found,
        key=lambda output: (
            output.channels != 1,
            output.height * output.width,
            output.kind == "logits",
        ),
    )
    if name is None and _are_query_masks(best, ports):
        raise EngineError(
            f"{best.name} has a mask for each query, to be put together with the queries' "
            "classes: only networks that give pixels their classes are taken. "
            f"Outputs: {list_ports(ports)}",
            reason="ENGINE_UNSUPPORTED",
        )
    return best


def _are_query_masks(output: SegmentationOutput, ports: Sequence[Port]) -> bool:
    """Tell whether scores are N×Q×h×w masks of queries beside their N×Q×C classes (MaskFormer)."""
    return output.channels >= _FEWEST_QUERIES and any(
        port.dtype in _FLOATS
        and port.shape is not None
        and len(port.shape) == 3
        and port.shape[1] == output.channels
        for port in ports
    )


def _is_box_list(port: Port) -> bool:
    """Tell whether an output is a list of boxes: rows of numbers, thousands of them."""
    if port.shape is None or len(port.shape) != 3 or port.dtype not in _FLOATS:
        return False
    if port.shape[0] not in (1, None):  # rows of a picture, or its channels
        return False
    lengths = [length or 0 for length in port.shape[1:]]
    return max(lengths) >= 16 * max(1, min(lengths))


def _segmentation(port: Port, image: ImageInput) -> SegmentationOutput | None:
    if port.shape is None:
        return None
    shape = _with_all_axes(port.shape)
    axes = len(port.shape)
    if port.dtype in _INTEGERS:
        if len(shape) == 4 and 1 in (shape[1], shape[3]):
            rows, columns = shape[2:] if shape[1] == 1 else shape[1:3]
            if _same_grid(rows, columns, image):
                return SegmentationOutput(
                    port.name, port.dtype, "labels", "nchw", 0, rows or 0, columns or 0, axes
                )
        return None
    if port.dtype not in _FLOATS or len(shape) != 4:
        return None
    # The layout whose grid has the picture's shape; a tie goes to the layout of the input.
    layouts: tuple[Layout, ...] = ("nchw", "nhwc") if image.layout == "nchw" else ("nhwc", "nchw")
    fitting = []
    for layout in layouts:
        channels, rows, columns = (
            (shape[1], shape[2], shape[3]) if layout == "nchw" else (shape[3], shape[1], shape[2])
        )
        if channels and channels <= VOID_ID and _same_grid(rows, columns, image):
            assert rows is not None
            assert columns is not None
            if channels == 1 and (
                _COARSEST * rows < image.height or _COARSEST * columns < image.width
            ):
                continue  # a single score has no other sign of what it is than its grid
            found = SegmentationOutput(
                port.name, port.dtype, "logits", layout, channels, rows, columns, axes
            )
            fitting.append((abs(columns * image.height - rows * image.width), found))
    return min(fitting, key=lambda fit: fit[0])[1] if fitting else None


def _with_all_axes(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return a shape with the axes that it leaves out, where it can be one of a segmentation.

    N×H×W has no axis for its single channel, C×H×W and H×W×C none for the batch, H×W neither.
    """
    if len(shape) == 2:
        return 1, 1, *shape
    if len(shape) == 3:
        return (1, 1, *shape[1:]) if shape[0] in (1, None) else (1, *shape)
    return shape


def _same_grid(rows: int | None, columns: int | None, image: ImageInput) -> bool:
    """Tell whether a grid can be the picture's, reduced: same shape up to rounding."""
    if not rows or not columns or rows > image.height or columns > image.width:
        return False
    if rows < 2 and image.height > 32:  # a pooled feature, not a map
        return False
    # One row more or less is rounding, and so are the columns that go with it.
    per_row = image.width / image.height
    return per_row * (rows - 1) - 1 <= columns <= per_row * (rows + 1) + 1
