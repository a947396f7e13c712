"""A mark beside the outputs of a clip that are not whole, for the next run to make them anew."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

SUFFIX = ".unfinished"
_TEXT = "What is called like this, beside it, was not written to its end.\n"


class Unfinished:
    """Stands beside the outputs of one clip while they are written.

    What ends the program, be it the power, leaves it there.

    Args:
        folder: where the outputs are; None where nothing is written to files.
        name: what the first of them is called, or the word that they begin with.
        outputs: files and folders that are the clip's alone, where their names are known.
    """

    def __init__(
        self, folder: Path | None = None, name: str = "", outputs: Sequence[Path] = ()
    ) -> None:
        self._folder = folder
        self._name = name
        self._outputs = tuple(outputs)
        self._own = False

    @classmethod
    def beside(cls, outputs: Sequence[Path]) -> Unfinished:
        """Return the one of outputs that are a clip's alone, at least one."""
        return cls(outputs[0].parent, outputs[0].name, outputs)

    @property
    def mark(self) -> Path | None:
        """The file that it is."""
        return self._folder / (self._name + SUFFIX) if self._folder else None

    @property
    def left(self) -> bool:
        """Whether an earlier run was ended while it wrote these outputs."""
        return self.mark is not None and self.mark.exists()

    def begin(self, *, replace: bool) -> None:
        """Set the mark.

        Args:
            replace: also where outputs are there, as they are written over.
        """
        if self.mark is None or self.left or (not replace and self._any()):
            return
        # Where no file can be written, the outputs themselves will say so.
        with contextlib.suppress(OSError):
            self.mark.parent.mkdir(exist_ok=True)
            self.mark.write_text(_TEXT)
            self._own = True

    def refused(self) -> None:
        """Take a mark of this run away: nothing was written, as there are outputs already."""
        if self._own:
            self.end()

    def failed(self) -> None:
        """Leave the mark only where there is something that is not whole."""
        if not self._any():
            self.end()

    def end(self) -> None:
        """Take the mark away: the outputs are whole."""
        if self.mark is not None:
            with contextlib.suppress(OSError):
                self.mark.unlink(missing_ok=True)

    def _any(self) -> bool:
        if self._outputs or self._folder is None or not self._folder.is_dir():
            return any(output.exists() for output in self._outputs)
        called = self._name + "_", self._name + "."
        begun = (path for path in self._folder.iterdir() if path.name.startswith(called))
        return any(path != self.mark for path in begun)
