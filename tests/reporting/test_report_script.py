"""What the page's script does, in a real browser, where there is one: the map's thumbnails and filter, the slider of the walks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_study import write_study

from ganaug.reporting import report

CLASSES = ["crack", "dent", "fine & <good>"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = report(write_study(tmp_path_factory.mktemp("study"), CLASSES))
    return path.as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    complaints: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(address)
    yield opened
    opened.close()
    assert not complaints


def words(page: Any, name: str) -> str:
    return str(page.text_content(f"#{name}"))


def place_of(page: Any, number: int) -> tuple[float, float]:
    """Where in the window a point of the map lies."""
    data = json.loads(page.text_content("#map-data"))
    box = page.locator("#map-plot svg").bounding_box()
    x, y = data["places"][2 * number : 2 * number + 2]
    return box["x"] + x / data["width"] * box["width"], box["y"] + y / data["height"] * box["height"]


def test_the_slider_moves_every_walk_by_keyboard(page: Any) -> None:
    page.locator("#walk-step").focus()
    first = [window.screenshot() for window in page.locator(".walks .window").all()]
    assert len(first) == len(CLASSES)
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert words(page, "walk-words") == page.get_attribute("#walk-step", "aria-valuetext") == "step 3 of 5"
    later = [window.screenshot() for window in page.locator(".walks .window").all()]
    assert all(before != after for before, after in zip(first, later, strict=True))
    page.keyboard.press("End")
    moved = page.evaluate(
        "(([w, i]) => (w.top - i.top) / w.height)([document.querySelector('.walks .window'), document.querySelector('.walks img')]"
        ".map(e => e.getBoundingClientRect()))"
    )
    assert moved == pytest.approx(4, abs=0.02)  # the row of the last step


def test_pointing_at_an_image_shows_it_and_its_nearest_one(page: Any) -> None:
    page.locator("#map-plot").scroll_into_view_if_needed()
    seen = set()
    for number, kind in ((0, "synthetic"), (23, "real")):
        page.mouse.move(*place_of(page, number))
        assert words(page, "map-words").startswith(f"{kind} image of ")
        other = "real" if kind == "synthetic" else "synthetic"
        assert words(page, "map-nearest-words").startswith(f"nearest {other} image of ")
        shown = page.locator("#map-image img")
        assert shown.get_attribute("alt") == words(page, "map-words")
        shown.evaluate("image => image.decode()")
        seen.add(page.locator("#map-image").screenshot())
    assert len(seen) == 2 and words(page, "map-words") == "real image of fine & <good>"


def test_every_thumbnail_of_the_map_can_be_decoded(page: Any) -> None:
    sizes = page.evaluate(
        "Promise.all(JSON.parse(document.getElementById('map-data').textContent).groups.map(async ({sheet, count}) => {"
        "const image = new Image(); image.src = sheet; await image.decode(); return image.naturalWidth === 28 * Math.min(10, count); }))"
    )
    assert sizes == [True] * 2 * len(CLASSES)


def test_the_filter_leaves_one_class_and_the_arrows_stay_in_it(page: Any) -> None:
    assert words(page, "map-count") == "24 of 24 images"
    page.select_option("#map-class", label="dent")
    assert words(page, "map-count") == "8 of 24 images"
    assert page.locator("#map-plot path:not(.faded)").count() == 2
    page.uncheck("#map-synthetic")
    assert words(page, "map-count") == "4 of 24 images" and words(page, "map-words") == "real image of dent"
    page.locator("#map-plot").focus()
    rings = set()
    for key in ("Home", "ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown", "End"):
        page.keyboard.press(key)
        assert words(page, "map-words") == "real image of dent"
        rings.add(page.get_attribute("#map-ring", "cx"))
    assert len(rings) > 1
    page.uncheck("#map-real")
    assert words(page, "map-count") == "0 of 24 images"
    page.keyboard.press("Home")


def test_every_control_has_a_label_and_shows_its_focus(page: Any) -> None:
    controls = page.locator("input, select, #map-plot").all()
    assert len(controls) == 5
    for control in controls:
        control.focus()
        page.keyboard.press("Shift")  # as one who uses the keyboard
        assert control.evaluate("e => e.getAttribute('aria-label') || e.labels.length > 0")
        assert control.evaluate("e => getComputedStyle(e).outlineStyle") != "none"


NAMES = """
[...document.querySelectorAll('#map-plot text')].map(text => [text.textContent, text.getBoundingClientRect()])
  .map(([name, box]) => [name, box.left, box.right, box.top, box.bottom])
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_names_on_the_map_do_not_overlap(browser: Any, tmp_path: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report(write_study(tmp_path, [f"KIND WM {n}" for n in range(12)])).as_uri())
    names = page.evaluate(NAMES)
    assert len(names) > 5
    room = page.locator("#map-plot").bounding_box()
    for index, (_, left, right, top, bottom) in enumerate(names):
        assert room["x"] <= left and right <= room["x"] + room["width"]
        for _, other_left, other_right, other_top, other_bottom in names[:index]:
            apart = left >= other_right or right <= other_left or top >= other_bottom - 4 or bottom - 4 <= other_top
            assert apart  # but for the room that a font leaves below its letters
    page.close()


CONTRASTS = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const luminance = colour => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(part => part / 255);
    const linear = parts.map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  const name = document.querySelector('#map-plot text');
  const behind = luminance(getComputedStyle(document.querySelector('.card')).backgroundColor);
  return [...Array(24).keys()].map(k => {
    name.style.setProperty('--hue', 15 * k);
    const [dark, light] = [behind, luminance(getComputedStyle(name).fill)].sort((a, b) => a - b);
    return (light + .05) / (dark + .05);
  });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_a_class_can_be_read(browser: Any, address: str, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    found = page.evaluate(CONTRASTS)
    assert len({round(value, 2) for value in found}) > 5 and min(found) >= 4.5
    page.close()


def test_the_map_is_as_wide_as_its_panel_and_names_its_colours(page: Any) -> None:
    data = json.loads(page.text_content("#map-data"))
    x, y = data["places"][::2], data["places"][1::2]
    assert max(x) - min(x) > 0.9 * data["width"] and min(y) >= 0 and max(y) <= data["height"] <= data["width"]
    hues = {name: f"--hue: {120 * index}" for index, name in enumerate(CLASSES)}
    for place in (page.locator("#map-plot text"), page.locator(".legend li")):
        assert {item.text_content().strip(): item.get_attribute("style") for item in place.all()} == hues


def test_a_tap_on_a_phone_shows_an_image(browser: Any, address: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = phone.new_page()
    page.goto(address)
    page.locator("#map-plot").scroll_into_view_if_needed()
    before = words(page, "map-words")
    page.touchscreen.tap(*place_of(page, 23))
    assert words(page, "map-words") == "real image of fine & <good>" != before
    phone.close()


def test_without_scripts_the_pictures_stand_and_the_controls_do_not(browser: Any, address: str) -> None:
    plain = browser.new_context(java_script_enabled=False)
    page = plain.new_page()
    page.goto(address)
    assert page.locator("#map-plot svg path").count() == 2 * len(CLASSES)
    assert page.locator("#walk-step").is_hidden() and page.locator("#map-class").is_hidden()
    assert page.get_by_text("need JavaScript").is_visible()
    plain.close()
