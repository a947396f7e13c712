"""The live page as an output."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import sys
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import Rendered
from rtseg.realtime.log import NOTICE
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.web.access import check_token, new_token
from rtseg.realtime.web.address import WebAddress
from rtseg.realtime.web.options import WebOptions

if TYPE_CHECKING:
    from rtseg.realtime.web.app import LivePage
    from rtseg.realtime.web.latest import LatestFrame
    from rtseg.realtime.web.server import WebServer

_log = logging.getLogger(__name__)

NEEDS = ("uvicorn", "starlette", "websockets")


class WebSink(Sink):
    """Serves one page with the newest picture, the run's numbers, and the window's keys.

    Nothing that a visitor does can hold the loop: :meth:`write` leaves the frame where the
    server finds it, and goes on. Pictures are encoded only while somebody watches.

    Args:
        address: where to serve.
        controls: where visitors' wishes go, or None for ones of its own.
        options: token, clocks, colours.

    Raises:
        SinkError: the extra ``web`` is not installed (``NOT_INSTALLED``).
        UsageError: the token cannot be used.
    """

    presents = True

    def __init__(
        self,
        address: WebAddress,
        controls: Controls | None = None,
        options: WebOptions | None = None,
    ) -> None:
        missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
        if missing:
            raise SinkError(
                f"the live page needs {', '.join(missing)}: pip install rt-seg[web]",
                reason="NOT_INSTALLED",
            )
        self.name = address.url
        self.address = address
        self.controls = controls if controls is not None else Controls()
        self._options = options if options is not None else WebOptions()
        token = self._options.token
        self.token = check_token(token) if token is not None else None
        self._made = token is None and not address.local
        if self._made:
            self.token = new_token()
        self._latest: LatestFrame | None = None
        self._server: WebServer | None = None
        self._renderer: Renderer | None = None
        self._shown: Rendered | None = None
        self._painted: ViewOptions | None = None

    def open(self, context: SinkContext) -> None:
        """Start the server; see :meth:`Sink.open`.

        Raises:
            SinkError: the address is in use (``BUSY``), not permitted, or not of this machine.
        """
        from rtseg.realtime.web.app import LivePage
        from rtseg.realtime.web.latest import LatestFrame
        from rtseg.realtime.web.server import WebServer
        from rtseg.realtime.web.state import RunState, StreamHealth, health_of

        latest = LatestFrame()
        options, controls = self._options, self.controls
        profiler = options.profiler if options.profiler is not None else Profiler()
        classes = options.classes if options.classes is not None else context.engine.classes

        def one_stream() -> tuple[StreamHealth, ...]:
            return (health_of(context.source.name, profiler, context.source, controls),)

        state = RunState(context, classes, profiler, controls, options.streams or one_stream)

        def make_page(executor: Executor) -> LivePage:
            return LivePage(
                latest,
                state,
                controls,
                class_count=len(classes),
                stem=context.source.stem,
                executor=executor,
            )

        self._server = WebServer(self.address, self.token, make_page)
        self._latest = latest
        self._renderer = Renderer(classes, controls=controls)
        self.address = self._server.address
        self._announce()

    def write(self, item: Rendered) -> None:
        """Leave one frame for those who watch; see :meth:`Sink.write`."""
        if self._latest is None:
            raise SinkError("the live page is closed. Allowed: writing between open and close")
        if item.picture is None:
            raise SinkError("the live page needs pictures. Received: none", reason="BAD_INPUT")
        self._shown, self._painted = item, None
        self._latest.put(item)

    def idle(self) -> None:
        """Paint the last frame anew where its view was changed while the run stands still."""
        item, view = self._shown, self.controls.options
        if self._latest is None or self._renderer is None or item is None:
            return
        # A picture of several sources has no frame of its own to be painted from.
        if not self.controls.paused or view == self._painted or self._options.streams is not None:
            return
        hud = self._options.hud() if self._options.hud is not None else None
        picture = self._renderer.render(item.frame, item.labels, hud, view)
        self._painted = view
        self._latest.put(dataclasses.replace(item, picture=picture))

    def close(self) -> None:
        """End the server and every connection; see :meth:`Sink.close`."""
        server, self._server = self._server, None
        self._latest = self._renderer = self._shown = None
        if server is not None:
            server.close()

    def _announce(self) -> None:
        url = self.address.url
        if self._made:
            url += f"?token={self.token}"
        line = f"live page: {url}"
        if _log.isEnabledFor(NOTICE):
            _log.log(NOTICE, line)
        elif self._made:  # quiet, but nobody could get in without it
            print(line, file=sys.stderr, flush=True)
