"""The page in a real browser, where there is one: no errors, no requests, no sideways scrolling."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ganaug.reporting import report

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not os.access(CHROMIUM, os.X_OK), reason="no chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_page_opens_quietly_and_fits(browser: Any, hostile_study: Path, width: int, scheme: str) -> None:
    path = report(hostile_study)
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("data:", path.as_uri())) else complaints.append(request.url),
    )
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("getComputedStyle(document.querySelector('.sprite')).imageRendering") == "pixelated"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 24)"
    assert dark == (scheme == "dark")
    page.close()
    assert not complaints


def test_texts_of_the_figures_take_the_colour_of_the_page(browser: Any, study: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(report(study).as_uri())
    colours = page.evaluate(
        "[...document.querySelectorAll('svg.figure text')].map(text => getComputedStyle(text).fill)"
    )
    assert set(colours) <= {"rgb(232, 235, 240)", "rgb(160, 169, 184)", "rgb(255, 138, 125)", "rgb(76, 199, 154)"}
    page.close()
