"""The page in a real browser, where there is one."""

import time

import pytest
from synthetic_folder import HOSTILE, PER_CLASS, serving, write_picture

from ganaug.browsing.decisions import parcel
from ganaug.browsing.reals import open_reals
from ganaug.data.manifest import Row, manifest_writer, read_manifest

FIRST = "0/synthetic-000000.png"


def open_page(browser, client, complaints=None, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(60_000)
    if complaints is not None:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: complaints.append(request.url) if not request.url.startswith(client.url) else None,
        )
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(client.url)
    page.wait_for_selector("#grid li")
    return page


def wait_for_manifest(page, folder, rejected):
    """Until the manifest, which reads the journal too, says so and the files, which move after that is written, lie where they should."""

    def settled():
        table = read_manifest(folder, rejected=True)
        by_hand = table["reasons"] == "by-hand"
        return set(table["file"][by_hand]) == set(rejected) and all(
            (folder / file).is_file() != away and parcel(folder, file).is_file() == away
            for file, away in zip(table["file"], by_hand, strict=True)
            if file
        )

    end = time.monotonic() + 60
    while not settled():
        assert time.monotonic() < end
        page.wait_for_timeout(50)


def totals(page):
    return page.text_content("#totals")


def test_rejecting_by_key_and_undoing(browser, folder):
    complaints = []
    with serving(folder) as client:
        page = open_page(browser, client, complaints)
        page.keyboard.press("x")
        assert totals(page) == f"{2 * PER_CLASS - 1} kept, 1 rejected by hand"
        assert page.text_content("#file") == "0/synthetic-000001.png"  # the next one
        wait_for_manifest(page, folder, [FIRST])
        assert not (folder / FIRST).exists() and parcel(folder, FIRST).is_file()
        page.keyboard.press("u")
        assert page.text_content("#file") == FIRST and page.text_content("#verdict") == "kept"
        wait_for_manifest(page, folder, [])
        assert (folder / FIRST).is_file()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("X")
        wait_for_manifest(page, folder, ["0/synthetic-000001.png"])
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("k")
        page.keyboard.press("End")
        page.click("#reject")
        page.locator("#grid li").nth(2).hover()
        page.locator("#grid li").nth(2).locator(".toggle").click()
        wait_for_manifest(page, folder, [f"{HOSTILE}/synthetic-000003.png", "0/synthetic-000002.png"])
        page.reload()
        page.wait_for_selector("#grid li")
        assert totals(page) == f"{2 * PER_CLASS - 2} kept, 2 rejected by hand"
        page.close()
    assert not complaints


def test_filters_sorting_and_names(browser, folder):
    complaints = []
    with serving(folder) as client:
        page = open_page(browser, client, complaints)
        hostile = page.locator("#classes button").nth(2)
        assert hostile.locator(".of").text_content() == HOSTILE and page.locator("#classes img").count() == 0
        hostile.click()
        shown = "[...document.querySelectorAll('#grid .score')].map(each => each.textContent)"
        page.select_option("#sort", "realism")
        assert page.evaluate(shown) == ["-3.25", "0.50", "2.00", "–"]
        page.check("#reverse")
        assert page.evaluate(shown) == ["2.00", "0.50", "-3.25", "–"]  # what has no score is last in both orders
        assert (
            page.locator("#grid li").first.locator("img").get_attribute("alt")
            == f"{HOSTILE}, synthetic-000002.png, kept"
        )
        page.keyboard.press("x") if page.evaluate("document.activeElement.id") != "reverse" else page.click("#reject")
        page.select_option("#show", "hand")
        assert page.evaluate(shown) == ["2.00"]
        page.select_option("#show", "kept")
        assert page.locator("#grid li").count() == PER_CLASS - 1
        assert page.locator("#classes .num").all_text_contents() == ["7 −1", "4", "3 −1"]
        page.keyboard.press("Escape")
        page.locator("#grid .pick").first.focus()
        page.keyboard.press("?")
        assert page.is_visible("#keys")
        page.keyboard.press("x")  # not while the help is open
        page.keyboard.press("Escape")
        assert not page.is_visible("#keys") and "1 rejected" in totals(page)
        page.close()
    assert not complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits(browser, folder, tmp_path, scheme):
    for name in ("0", HOSTILE):
        for i in range(PER_CLASS):
            write_picture(tmp_path / "data/train" / name / f"real-{i}.png", 9 * i)
    complaints = []
    with serving(folder, open_reals(folder, tmp_path / "data")) as client:
        page = open_page(browser, client, complaints, color_scheme=scheme)
        for width in (390, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 844})
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            sticks_out = "[...document.querySelectorAll('.detail *, header *')].filter(each => each.offsetParent"
            sticks_out += " && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML)"
            assert page.evaluate(sticks_out) == []
            assert page.is_visible("#real") and page.is_visible("#reject")
        assert page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
        assert page.evaluate("getComputedStyle(document.getElementById('big')).imageRendering") == "pixelated"
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 24)"
        assert dark == (scheme == "dark")
        page.close()
    assert not complaints


def test_many_images_are_not_all_in_the_page(browser, tmp_path):
    folder = tmp_path / "many"
    write_picture(folder / "0/0.png", 0)
    content = (folder / "0/0.png").read_bytes()
    with manifest_writer(folder) as write:
        for i in range(3000):
            (folder / f"0/{i}.png").write_bytes(content)
            write(Row(f"0/{i}.png", "0", "synthetic"))
    with serving(folder) as client:
        page = open_page(browser, client, viewport={"width": 1280, "height": 800})
        assert page.locator("#grid li").count() < 150
        page.keyboard.press("End")
        assert page.text_content("#file") == "0/2999.png"
        assert page.locator("#grid li").last.get_attribute("aria-posinset") == "3000"
        assert page.evaluate("document.activeElement.closest('li').getBoundingClientRect().bottom <= innerHeight")
        assert page.locator("#grid li").count() < 150
        page.close()


def test_two_tabs_agree_and_a_dead_server_is_told(browser, folder):
    with serving(folder) as client:
        first, second = open_page(browser, client), open_page(browser, client)
        first.keyboard.press("x")
        second.get_by_text("1 rejected by hand").wait_for()
        second.close()
    first.keyboard.press("x")
    first.wait_for_selector("#trouble")
    assert "Not saved yet: 0/synthetic-000001.png" in first.text_content("#trouble")
    assert first.locator("li.unsaved").count() == 1
    first.close()
    assert len(read_manifest(folder)) == 2 * PER_CLASS - 1
