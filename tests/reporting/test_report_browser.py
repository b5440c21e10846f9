"""The page in a real browser, where there is one: no errors, no requests, no sideways scrolling."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_study import add_arms, write_study
from page_reader import change_study
from PIL import Image

from ganaug.reporting import report


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


OUTSIDE = """
[...document.querySelectorAll('svg.figure')].slice(0, 2).flatMap(figure => {
  const room = figure.getBoundingClientRect();
  return [...figure.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < room.left - 1 || box.right > room.right + 1 || box.bottom > room.bottom + 1;
  }).map(text => text.textContent);
})
"""
OVERLAPPING = """
[...document.querySelectorAll('svg.figure')].slice(0, 2).flatMap(figure => {
  const boxes = [...figure.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([name, a], index) => boxes.slice(index + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4
  ).map(([other]) => `${name} / ${other}`));
})
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_the_charts_of_eleven_arms_have_room(browser: Any, tmp_path: Path, width: int) -> None:
    folder = write_study(tmp_path, ["a", "b", "c"])
    change_study(folder, add_arms)
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report(folder).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(OVERLAPPING) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_has_a_shade_where_it_does(browser: Any, study: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme=scheme)
    page.goto(report(study).as_uri())
    table = page.locator(".scroll:visible").first
    assert table.evaluate("e => e.scrollWidth > e.clientWidth + 40")
    brightness = {}
    for place in ("start", "end"):
        table.evaluate("(e, left) => { e.scrollLeft = left }", 0 if place == "start" else 9999)
        shown = np.array(Image.open(io.BytesIO(table.screenshot())).convert("L"), np.float64)
        brightness[place] = [float(np.median(shown[:, column])) for column in (0, -1)]
    surface = brightness["start"][0]
    assert brightness["end"][1] == surface  # no shade at an end, and one where there is more
    assert all(abs(shade - surface) > 15 for shade in (brightness["start"][1], brightness["end"][0]))
    page.close()


def test_texts_of_the_figures_take_the_colour_of_the_page(browser: Any, study: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(report(study).as_uri())
    colours = page.evaluate(
        "[...document.querySelectorAll('svg.figure text')].map(text => getComputedStyle(text).fill)"
    )
    assert set(colours) <= {"rgb(232, 235, 240)", "rgb(160, 169, 184)", "rgb(255, 138, 125)", "rgb(76, 199, 154)"}
    page.close()
