"""The page in headless Chromium, along every button.

``SCREENSHOT=docs/pictures/demo.png`` writes a picture, ``PAGE_RUN`` names the run on it.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from prevalent.page.app import NOBODY, build_page, import_gradio, launch, show, walk_both
from prevalent.page.explorer import Explorer
from tests.toy_runs import make_demo_folder

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
SECONDS = 1000.0


@pytest.fixture(scope="module")
def explorer(toy_world, tmp_path_factory):
    if run := os.environ.get("PAGE_RUN"):
        return Explorer(Path(run))
    return Explorer(make_demo_folder(tmp_path_factory.mktemp("demo"), toy_world), device="cpu")


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'prevalent-vln\[demo\]'"):
        import_gradio()


def test_two_walks_are_shown_side_by_side_and_one_alone(explorer):
    pytest.importorskip("matplotlib")
    split = explorer.splits[0]
    one = explorer.instructions(split, explorer.scans(split)[0])[0]
    walks = walk_both(explorer, split, one.id, one.text, explorer.agents[0], "shortest", None)
    assert [walked.agent for walked in walks] == [explorer.agents[0], "shortest"]
    assert "shortest, step 1" in show(walks, 1)[1]
    alone = walk_both(explorer, split, one.id, one.text, "stop", NOBODY, 3)
    assert show(alone, 1)[1] == ""
    with pytest.raises(ValueError, match="press Walk"):
        show([], 1)


@pytest.fixture(scope="module")
def page(explorer):
    """The page in a browser that records what it asks of other hosts."""
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    pytest.importorskip("matplotlib", reason="the extra demo is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if not Path(CHROMIUM).is_file():
        pytest.skip("no chromium: install it, or name it with CHROMIUM")
    blocks = build_page(explorer, import_gradio())
    address = launch(blocks, "127.0.0.1", 0, wait=False)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1000, "height": 1200})
        view.set_default_timeout(60 * SECONDS)
        elsewhere = []
        view.on("request", lambda asked: elsewhere.append(asked.url))
        answer = view.goto(address)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        yield view
        elsewhere = [url for url in elsewhere if not url.startswith((address, "data:", "blob"))]
        assert not elsewhere, "the page asked other hosts"
        browser.close()
    blocks.close()


def title(page, side):
    return page.locator(f"#view-{side} h4")


def test_a_walk_is_watched_step_by_step(page, explorer):
    page.locator("#run").click()
    title(page, "one").get_by_text("step 1 of").wait_for()
    title(page, "other").get_by_text("shortest, step 1 of").wait_for()
    assert page.locator("#view-one table.choices tr").count() >= 3
    assert page.locator("#view-one .words span").count() >= 5
    page.locator("#next").click()
    title(page, "other").get_by_text("shortest, step 2 of").wait_for()
    if place := os.environ.get("SCREENSHOT"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(SECONDS)
        page.screenshot(path=place, full_page=True)
    page.locator("#back").click()
    title(page, "other").get_by_text("shortest, step 1 of").wait_for()


def test_a_typed_instruction_is_followed_and_an_empty_one_is_told(page):
    text = page.locator("#text textarea")
    text.fill("the to the to the <b>x</b>")  # words of every toy world, in no such order there
    page.locator("#run").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#view-one .words span')].slice(1, 6)"
        ".map(one => one.innerText).join(' ') === 'the to the to the'"
    )
    text.fill("  ")
    page.locator("#run").click()
    page.get_by_text("the instruction has no word").first.wait_for()


def test_another_split_brings_its_scans_and_instructions(page, explorer):
    page.locator("#split input").click()
    page.get_by_role("option", name="train", exact=True).click()
    scan = explorer.scans("train")[0]
    page.wait_for_function("scan => document.querySelector('#scan input').value === scan", arg=scan)
    text = explorer.instructions("train", scan)[0].text
    page.wait_for_function(
        "text => document.querySelector('#text textarea').value === text", arg=text
    )
