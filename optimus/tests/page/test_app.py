"""The page in headless Chromium, one click path a tab.

``SCREENSHOT=docs/pictures/demo.png`` writes a picture of each tab, ``PAGE_RUN`` names the run.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from factories import tiny_vae

from optimus.__main__ import main
from optimus.data.toy import read_factors, toy_sentences
from optimus.page.app import STYLE, build_page, import_gradio, launch
from optimus.page.examples import TOY
from optimus.page.explorer import Explorer, load_explorer

LINES = toy_sentences(30)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
SECONDS = 1000.0


def test_a_page_without_a_model_says_what_to_run_first(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--serve", "--run-dir", str(tmp_path / "none"), "--port", "0"])
    assert stopped.value.code == 2
    assert f"run `optimus demo --run-dir {tmp_path / 'none'}` first" in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'optimus-vae\[demo\]'"):
        import_gradio()


@pytest.fixture(scope="module")
def page():
    """The page in a browser that records what it asks of other hosts."""
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if not Path(CHROMIUM).is_file():
        pytest.skip("no chromium: install it, or name it with CHROMIUM")
    if run := os.environ.get("PAGE_RUN"):
        explorer = load_explorer(Path(run))
    else:
        groups = {"tense": [read_factors(line).tense for line in LINES]}
        explorer = Explorer(tiny_vae(LINES), LINES, groups)
    blocks = build_page(explorer, import_gradio())
    address = launch(blocks, "127.0.0.1", 0, wait=False, css=STYLE)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1000, "height": 760})
        view.set_default_timeout(30 * SECONDS)
        view.elsewhere, view.explorer = [], explorer
        view.on("request", lambda asked: view.elsewhere.append(asked.url))
        answer = view.goto(address)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        yield view
        view.elsewhere = [u for u in view.elsewhere if not u.startswith((address, "data:", "blob"))]
        assert not view.elsewhere, "the page asked other hosts"
        browser.close()
    blocks.close()


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def take_picture(page, tab):
    if place := os.environ.get("SCREENSHOT"):
        path = Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        for message in page.locator(".toast-close").all():  # of the tests before
            message.click()
        page.wait_for_timeout(800)
        page.screenshot(path=path.with_stem(f"{path.stem}_{tab.lower()}"), full_page=True)


def wait_for_text(page, identity):
    """The text of a box once it has one."""
    box = page.locator(f"#{identity} textarea, #{identity} input").first
    page.wait_for_function("box => box.value.length > 0", arg=box.element_handle())
    return box.input_value()


def cell(page, identity, text):
    """A cell of a table; each table has a hidden twin that measures the widths."""
    found = page.locator(f"#{identity}").get_by_text(text, exact=True)
    return found.locator("visible=true").first


def test_the_page_opens_with_an_example_and_what_becomes_of_it(page):
    assert wait_for_text(page, "attributes-moved")
    cell(page, "attributes-alone", "component 1").wait_for()
    page.locator("#attributes-text textarea").fill("")
    page.get_by_text(TOY.sentences[2], exact=True).first.click()
    page.wait_for_function(
        "text => document.querySelector('#attributes-text textarea').value === text",
        arg=TOY.sentences[2],
    )


def test_a_sentence_is_encoded_and_an_empty_one_is_told(page):
    open_tab(page, "Encode")
    text = page.locator("#encode-text textarea")
    sentence = text.input_value()
    page.locator("#encode-run").click()
    assert wait_for_text(page, "encode-decoded")
    assert page.locator("#encode-bars rect").count() >= 6
    cell(page, "encode-nearest", sentence).wait_for()
    take_picture(page, "encode")
    text.fill("   ")
    page.locator("#encode-run").click()
    page.get_by_text("the sentence is empty").first.wait_for()
    text.fill(sentence)


def test_two_sentences_are_interpolated(page):
    open_tab(page, "Interpolate")
    page.locator("#interpolate-from textarea").fill("the dog chases a ball in the garden .")
    page.locator("#interpolate-to textarea").fill("the girls will watch a bird in the forest .")
    page.locator("#interpolate-run").click()
    cell(page, "interpolate-rows", "0.3").wait_for()
    take_picture(page, "interpolate")


def test_an_analogy_is_completed(page):
    open_tab(page, "Analogy")
    page.locator("#analogy-a textarea").fill("the dog sees a ball in the field .")
    page.locator("#analogy-b textarea").fill("the dogs see a ball in the field .")
    page.locator("#analogy-c textarea").fill("the girl finds a kite in the street .")
    page.locator("#analogy-run").click()
    assert wait_for_text(page, "analogy-d")
    take_picture(page, "analogy")


def test_sliders_move_a_sentence_and_the_table_is_of_that_sentence(page):
    open_tab(page, "Attributes")
    sentence = "the dog chases a ball in the garden ."
    page.locator("#attributes-text textarea").fill(sentence)
    page.locator("#attributes-0 input[type=number]").fill("2")
    page.locator("#attributes-run").click()
    assert wait_for_text(page, "attributes-moved")
    for _, made in page.explorer.variants(sentence):
        cell(page, "attributes-alone", made).wait_for()
    take_picture(page, "attributes")


def test_sentences_around_one_are_drawn(page):
    open_tab(page, "Around")
    page.locator("#around-radius input[type=number]").fill("0")
    page.locator("#around-run").click()
    cell(page, "around-rows", "20").wait_for()
    take_picture(page, "around")


def test_the_map_is_drawn_with_the_users_sentence(page):
    open_tab(page, "Map")
    page.locator("#map-own textarea").fill("the cat held a lamp in the school .")
    page.locator("#map-run").click()
    frame = page.frame_locator("#map-picture iframe")
    frame.locator("#legend").get_by_text("yours").wait_for()
    canvas = frame.locator("#plot")
    canvas.wait_for()
    for x in range(30, 600, 4):
        if frame.locator("#tip").inner_text():
            break
        canvas.hover(position={"x": x, "y": 340})
    assert "the" in frame.locator("#tip").inner_text(), "hovering tells the sentence"
    page.evaluate("scrollTo(0, 0)")
    take_picture(page, "map")
