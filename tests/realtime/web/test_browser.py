"""The live page in a real headless Chromium, at the width of a desk and of a phone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from tests.realtime.web.parts import TOKEN, Fed, page
from tests.realtime.web.proxy import in_a_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)")

DESK, PHONE = (1280, 800), (390, 844)
WAIT_S = 120.0
ROAD, SKY = (0.25, 0.75), (0.75, 0.75)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage"],  # containers of CI
            timeout=WAIT_S * 1e3,
        )
        yield started
        started.close()


@pytest.fixture
def fed() -> Iterator[Fed]:
    with page(size=(640, 384)) as made:
        yield made


class Tab:
    """One page in the browser; nothing may go to its console as an error."""

    def __init__(self, browser: Browser, url: str, size: tuple[int, int], **options: Any) -> None:
        width, height = size
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **options
        )
        self.context.set_default_timeout(WAIT_S * 1e3)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def picture(self) -> np.ndarray:
        """Return what is to be seen where the video is, BGR."""
        png = self.page.locator("#screen").screenshot()
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return np.asarray(image)

    def colour(self, place: tuple[float, float]) -> tuple[int, ...]:
        """Return the colour at a place of the video, in parts of its width and height."""
        image = self.picture()
        row, column = int(place[1] * image.shape[0]), int(place[0] * image.shape[1])
        return tuple(int(value) for value in image[row, column])

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < deadline_s, what
            self.page.wait_for_timeout(50)

    def live(self) -> Tab:
        """Wait for the first picture."""
        self.status("live")
        self.until(lambda: sum(self.colour(SKY)) > 120, "a picture")
        return self

    def status(self, word: str) -> None:
        """Wait until the page says so. (Its policy allows no ``eval``: no wait_for_function.)"""
        self.until(lambda: self.page.locator("#status").inner_text() == word, word)

    def keep(self, name: str) -> None:
        """Write a screenshot where ``RTSEG_SCREENSHOTS`` says so, for people."""
        folder = os.environ.get("RTSEG_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def shown(self) -> str:
        return str(self.page.evaluate("document.querySelector('#transport').dataset.shown"))

    def close(self) -> None:
        self.context.close()
        assert self.errors == []


def is_gray(colour: tuple[int, ...]) -> bool:
    return max(colour) - min(colour) < 16


@pytest.mark.parametrize(("name", "size"), [("desk", DESK), ("phone", PHONE)])
def test_video_moves_and_switches_change_it(
    browser: Browser, fed: Fed, name: str, size: tuple[int, int]
) -> None:
    tab = Tab(browser, fed.url, size).live()
    first = tab.picture()
    tab.until(lambda: bool((tab.picture() != first).mean() > 0.3), "the picture moves")
    assert not is_gray(tab.colour(ROAD))
    tab.page.locator("button.class", has_text="road").click()
    tab.until(lambda: is_gray(tab.colour(ROAD)) and not is_gray(tab.colour(SKY)), "road is hidden")
    assert 0 not in fed.controls.options.shown(19)
    tab.page.get_by_role("radio", name="Mask").click()
    tab.until(lambda: max(tab.colour(ROAD)) < 30, "black where nothing is coloured")
    assert fed.controls.options.view == "mask"
    tab.page.locator("#all").click()
    tab.until(lambda: not is_gray(tab.colour(ROAD)), "road is back")
    tab.page.get_by_role("radio", name="Overlay").click()
    tab.page.locator("#alpha").fill("0")
    tab.until(lambda: is_gray(tab.colour(SKY)), "no colour")
    assert fed.controls.options.alpha == 0
    tab.page.locator("#alpha").fill("0.5")
    tab.until(lambda: not is_gray(tab.colour(SKY)), "colour again")
    wide = tab.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    for part in ("#screen", "#pause", "#snapshot", "#views", "#alpha", "#classes", "#latency"):
        box = tab.page.locator(part).bounding_box()
        assert box is not None, part
        assert box["width"] > 20
        assert box["x"] >= -0.5
        assert box["x"] + box["width"] <= size[0] + 0.5
    tab.keep(name)
    tab.close()


def test_behind_a_proxy_the_page_may_lie_in_a_folder(browser: Browser, fed: Fed) -> None:
    with in_a_folder(fed.sink.address.port) as url:
        tab = Tab(browser, url, DESK).live()
        first = tab.picture()
        tab.until(lambda: bool((tab.picture() != first).mean() > 0.3), "the picture moves")
        tab.page.get_by_role("radio", name="Mask").click()
        tab.until(lambda: fed.controls.options.view == "mask", "a wish is heard")
        tab.close()


def test_plots_are_drawn_and_numbers_said(browser: Browser, fed: Fed) -> None:
    fed.profiler.drop("newer_frame", 1234)
    tab = Tab(browser, fed.url, DESK).live()
    drawn = """(() => { const c = document.querySelector('#latency');
        const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const name = getComputedStyle(c).getPropertyValue('--one');
        const blue = name.match(/\\w\\w/g).map((hex) => parseInt(hex, 16));
        let n = 0;
        for (let i = 0; i < data.length; i += 4)
          if (blue.every((v, k) => Math.abs(v - data[i + k]) < 24) && data[i + 3] > 200) n++;
        return n; })()"""
    tab.until(lambda: int(tab.page.evaluate(drawn)) > 20, "a blue line")
    assert "1,234" in tab.page.locator("#drops").inner_text()
    assert "newer frame" in tab.page.locator("#drops").inner_text()
    assert "a source" in tab.page.locator("#streams").inner_text()
    share = tab.page.locator(".class", has_text="road").locator("em")
    tab.until(lambda: share.inner_text().replace(" ", "") == "50%", "the road's share")
    tab.close()


def test_keys(browser: Browser, fed: Fed) -> None:
    tab = Tab(browser, fed.url, DESK).live()
    keyboard = tab.page.keyboard
    keyboard.press("Tab")
    tab.until(lambda: fed.controls.options.view == "mask", "Tab")
    for key, name in (("h", "hud"), ("l", "legend")):
        keyboard.press(key)
        tab.until(lambda n=name: getattr(fed.controls.options, n), key)  # type: ignore[misc]
    keyboard.press("+")
    tab.until(lambda: fed.controls.options.alpha == 0.6, "+")
    keyboard.press("-")
    tab.until(lambda: fed.controls.options.alpha == 0.5, "-")
    keyboard.press("Space")
    tab.until(lambda: fed.controls.paused, "space")
    tab.status("paused")
    written = fed.written
    keyboard.press(".")
    tab.until(lambda: fed.written > written, ".")
    with tab.page.expect_download() as download:
        keyboard.press("s")
    path = download.value.path()
    assert cv2.imread(str(path)).shape == (384, 640, 3)
    assert download.value.suggested_filename.startswith("drive_")
    keyboard.press("q")
    tab.page.locator("#quit").wait_for(state="visible")
    keyboard.press("Escape")  # thought better of it
    tab.page.locator("#quit").wait_for(state="hidden")
    assert not fed.controls.quit
    keyboard.press("Escape")
    tab.page.locator("#quit button.danger").click()
    tab.until(lambda: fed.controls.quit, "quit")
    tab.close()


def test_a_key_right_after_a_dialog_closed_is_the_pages(browser: Browser, fed: Fed) -> None:
    """Before the next frame the closed dialog's button still holds the focus."""
    tab = Tab(browser, fed.url, DESK).live()
    focused, opened = tab.page.evaluate(
        """() => {
          const quit = document.querySelector('#quit');
          quit.showModal();
          quit.close();
          const focused = document.activeElement.tagName;
          const key = { key: 'Escape', bubbles: true, cancelable: true };
          document.activeElement.dispatchEvent(new KeyboardEvent('keydown', key));
          return [focused, quit.open];
        }"""
    )
    assert focused == "BUTTON"  # otherwise the case was not met
    assert opened
    tab.close()


def test_webrtc_takes_over_and_motion_jpeg_can_be_chosen(browser: Browser, fed: Fed) -> None:
    pytest.importorskip("aiortc", reason="aiortc (WebRTC) needs Python 3.11")
    tab = Tab(browser, fed.url, DESK)
    tab.until(lambda: tab.shown() == "webrtc", "WebRTC's first picture")
    assert tab.page.locator("#rtc").is_visible()
    tab.until(lambda: not is_gray(tab.colour(ROAD)), "road")
    first = tab.picture()
    tab.until(lambda: bool((tab.picture() != first).mean() > 0.3), "the picture moves")
    tab.page.get_by_role("radio", name="Side by side").click()
    tab.until(
        lambda: bool(tab.page.evaluate("document.querySelector('#rtc').videoWidth === 1280")),
        "wide",
    )
    tab.page.get_by_role("radio", name="Overlay").click()
    tab.page.locator("#transport").select_option("mjpeg")
    tab.until(lambda: tab.shown() == "mjpeg", "motion JPEG")
    tab.until(lambda: tab.page.locator("#mjpeg").is_visible(), "the image")
    tab.until(lambda: not is_gray(tab.colour(ROAD)), "road")
    tab.close()


def test_the_token_is_asked_for_once(browser: Browser) -> None:
    with page(host="0.0.0.0", token=TOKEN) as fed:
        tab = Tab(browser, fed.url, PHONE)
        assert tab.page.locator("#screen").count() == 0
        tab.page.get_by_role("textbox").fill("wrong-token-here")
        tab.page.get_by_role("button").click()
        tab.page.get_by_text("not the token").wait_for()
        tab.page.get_by_role("textbox").fill(TOKEN)
        tab.page.get_by_role("button").click()
        tab.live()
        assert TOKEN not in tab.page.url
        assert TOKEN not in tab.page.evaluate("document.cookie")
        tab.page.reload()
        tab.live()
        tab.errors = [text for text in tab.errors if "401" not in text]
        tab.close()


def test_light_and_dark(browser: Browser, fed: Fed) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        tab = Tab(browser, fed.url, DESK, color_scheme=scheme).live()
        png = tab.page.screenshot()
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        brightness[scheme] = float(np.median(image))
        tab.keep(scheme)
        tab.close()
    assert brightness["dark"] < 60 < 200 < brightness["light"]


def test_the_end_and_a_stall_are_said(browser: Browser) -> None:
    with page() as fed:
        tab = Tab(browser, fed.url, PHONE).live()
        fed.stop.set()
        tab.page.locator("#stale", has_text="no new frame for").wait_for()
        tab.keep("stalled")
    tab.status("ended")
    assert sum(tab.colour(SKY)) > 60  # the last picture stays
    tab.close()
