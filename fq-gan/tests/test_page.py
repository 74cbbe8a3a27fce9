"""The page in headless Chromium, one click path a tab.

``SCREENSHOT=docs/pictures/page.png`` writes a picture of each tab; ``PAGE_RUN`` and
``PAGE_UGATIT_RUN`` name runs to take instead of tiny ones.
"""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import tiny_run
from ugatit_runs import tiny_ugatit

from fqgan.__main__ import main
from fqgan.biggan.train import train as train_biggan
from fqgan.page.explorer import load_explorer
from fqgan.page.layout import build_page, import_gradio, launch
from fqgan.ugatit.train import train as train_ugatit

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
SECONDS = 1000.0


def test_a_page_without_weights_says_what_to_run_first(tmp_path, capsys):
    for words, command in (([], "fqgan demo"), (["ugatit"], "fqgan demo --family ugatit")):
        options = ["--family", *words] if words else []
        place = str(tmp_path / "none")
        with pytest.raises(SystemExit) as stopped:
            main(["demo", "--serve", "--run-dir", place, "--port", "0", *options])
        assert stopped.value.code == 2
        assert f"run `{command} --run-dir {place}` first" in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'fq-gan\[demo\]'"):
        import_gradio()


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if not Path(CHROMIUM).is_file():
        pytest.skip("no chromium: install it, or name it with CHROMIUM")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(browser, run):
    """The page of ``run``; fails if it asks anything of other hosts."""
    blocks = build_page(load_explorer(run), import_gradio())
    address = launch(blocks, "127.0.0.1", 0, wait=False)
    view = browser.new_page(viewport={"width": 1100, "height": 900})
    view.set_default_timeout(30 * SECONDS)
    asked = []
    view.on("request", lambda request: asked.append(request.url))
    answer = view.goto(address)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    yield view
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not elsewhere, "the page asked other hosts"
    view.close()
    blocks.close()


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    run = os.environ.get("PAGE_RUN")
    if not run:
        run = tmp_path_factory.mktemp("page") / "run"
        train_biggan(tiny_run(run, max_steps=1))
    with opened(browser, run) as view:
        yield view


@pytest.fixture(scope="module")
def translations(browser, tmp_path_factory):
    run = os.environ.get("PAGE_UGATIT_RUN")
    if not run:
        run = tmp_path_factory.mktemp("page") / "ugatit"
        train_ugatit(tiny_ugatit(run, max_steps=1))
    with opened(browser, run) as view:
        yield view


@pytest.fixture
def junk(tmp_path):
    (tmp_path / "letter.png").write_text("this is no picture")
    return tmp_path / "letter.png"


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def picture(page, identity):
    """A picture once it is there."""
    shown = page.locator(f"#{identity} img").first
    shown.wait_for()
    page.wait_for_function("image => image.naturalWidth > 0", arg=shown.element_handle())
    return shown


def take_picture(page, tab):
    if place := os.environ.get("SCREENSHOT"):
        path = Path(place)
        page.wait_for_timeout(1 * SECONDS)
        page.screenshot(path=path.with_stem(f"{path.stem}-{tab}"), full_page=True)


def told(page, text):
    """A message of the page; it is closed again."""
    page.get_by_text(text).first.wait_for()
    page.get_by_label("Close").first.click()


def test_a_sheet_of_classes_is_drawn_and_a_bad_seed_is_told(page):
    open_tab(page, "Classes")
    page.locator("#classes-run").click()
    picture(page, "classes-sheet")
    take_picture(page, "classes")
    page.locator("#classes-seed input").fill("-4")
    page.locator("#classes-run").click()
    told(page, "a seed is a number from 0")


def test_the_way_from_one_class_to_another_is_drawn(page):
    open_tab(page, "Interpolation")
    page.locator("#way-last-seed input").fill("3")
    page.locator("#way-run").click()
    picture(page, "way-row")
    take_picture(page, "interpolation")


def test_truncations_are_drawn(page):
    open_tab(page, "Truncation")
    page.locator("#truncation-run").click()
    picture(page, "truncation-sheet")
    take_picture(page, "truncation")


def test_a_click_on_the_map_of_codes_shows_the_patches_of_the_code(page, junk):
    open_tab(page, "Codebook")
    page.locator("#codebook-run").click()
    shown = picture(page, "codebook-map")
    size = shown.bounding_box()
    shown.click(position={"x": size["width"] * 0.45, "y": size["height"] * 0.55})
    picture(page, "codebook-patches")
    assert page.locator("#codebook-code input").input_value()
    assert "% of the" in page.locator("#codebook-text textarea").input_value()
    take_picture(page, "codebook")
    page.locator("#codebook-upload input[type=file]").set_input_files(junk)
    page.locator("#codebook-upload").get_by_text("letter").first.wait_for()
    page.locator("#codebook-run").click()
    told(page, "letter.png cannot be read as an image")


def test_an_upload_is_translated_with_a_heat_map(translations, tmp_path):
    page = translations
    open_tab(page, "Translation")
    page.locator("#translation-run").click()
    for name in ("given", "made", "heat"):
        picture(page, f"translation-{name}")
    take_picture(page, "translation")
    mine = tmp_path / "mine.png"
    Image.new("RGB", (90, 60), "teal").save(mine)
    upload = page.locator("#translation-upload input[type=file]")
    upload.set_input_files(mine)
    page.locator("#translation-upload").get_by_text("mine").first.wait_for()
    before = page.locator("#translation-given img").first.get_attribute("src")
    page.locator("#translation-run").click()
    page.wait_for_function(
        "old => document.querySelector('#translation-given img').getAttribute('src') != old",
        arg=before,
    )


def test_a_run_of_translation_has_a_codebook_for_each_domain(translations):
    open_tab(translations, "Codebook")
    translations.locator("#codebook-run").click()
    picture(translations, "codebook-map")
