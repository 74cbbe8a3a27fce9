"""The page of the report sorts and filters in a browser, and asks for nothing else."""

import shutil
from decimal import Decimal

import pytest

from optimus.runtime.comparison import compare
from optimus.runtime.published import Figure, Result, Table
from optimus.runtime.report import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

VALUES = {"Random": "9.45", "Human": "16", "Seq2Seq": "-3"}


def test_figures_are_found_and_ordered_by_their_value(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    figures = tuple(
        Figure("Table 1", row, "val", "NE", Decimal(value), "arXiv 1", "high")
        for row, value in VALUES.items()
    )
    table = Table("Table 1", "Rooms", "Someone", "", "", "", ("val",), figures)
    ours = Result("x", "val", "NE", Decimal(9), table="Table 1", published="Random")
    path = tmp_path / "page.html"
    path.write_text(page([("rooms", compare([table], [], [ours]))]))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page()
        errors, requests = [], []
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("request", lambda request: requests.append(request.url))
        view.goto(path.as_uri())
        table_of_figures = view.locator("section.list").nth(1)

        def shown() -> list[str]:
            rows = table_of_figures.locator("tbody tr:visible")
            return [row.locator("td").nth(2).inner_text() for row in rows.all()]

        by_value = table_of_figures.locator("th", has_text="published")
        by_value.click()
        assert shown() == ["Seq2Seq", "Random", "Human"]
        by_value.click()
        assert shown() == ["Human", "Random", "Seq2Seq"]
        table_of_figures.locator("select").last.select_option("differs")
        assert shown() == ["Random"]
        table_of_figures.locator("select").last.select_option("")
        table_of_figures.locator("input").fill("HUM val")
        assert shown() == ["Human"]
        assert table_of_figures.locator(".count").inner_text() == "1 of 3 rows"
        assert errors == []
        assert requests == [path.as_uri()]
        browser.close()
