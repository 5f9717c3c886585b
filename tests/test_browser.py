"""The built workbook as a reader sees it: every page in a browser, at desktop and phone width, without a network.

The pages are those of the fast manifest, built here, those of all notebooks, from the outputs they are stored with, and
those of a site that was built before: ``reports/site``, or the folder that CRMLAB_SITE names.
"""

import os
from pathlib import Path

import pytest

from crmlab.report import build
from tests.browser import WIDTHS, check_page, needs_browser, open_browser, opened
from tests.stored import NOTEBOOKS, stored_page

ROOT = Path(__file__).parents[1]
BUILT = Path(os.environ.get("CRMLAB_SITE") or ROOT / "reports" / "site")
BUILT_PAGES = [str(page.relative_to(BUILT)) for page in sorted(BUILT.rglob("index.html")) if "old" not in page.parts]
LOOKS = [(width, scheme) for width in WIDTHS for scheme in ("light", "dark")]
pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The fast manifest, one of its reports built twice, so that there is a history."""
    out = tmp_path_factory.mktemp("site")
    for only in ("*", "*value"):
        reports = build(ROOT / "reports" / "fast.toml", out, only=only, force=True)
        assert {report["status"] for report in reports} == {"ok"}
    return out


def look(browser, path, wide, scheme):
    with opened(browser, path, WIDTHS[wide], scheme) as page:
        check_page(page, path, WIDTHS[wide], letters=(wide, scheme) == LOOKS[0])


@pytest.mark.parametrize(("wide", "scheme"), LOOKS)
def test_every_page_of_a_site_opens_offline_without_errors_and_fits_the_screen(site, browser, wide, scheme):
    pages = sorted(site.rglob("index.html"))
    assert len(pages) > 3
    for path in pages:
        look(browser, path, wide, scheme)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_page_of_every_notebook_opens_offline_without_errors_and_fits_the_screen(path, browser, tmp_path):
    (tmp_path / "index.html").write_text("<!DOCTYPE html>")
    page = tmp_path / "report" / "index.html"
    page.parent.mkdir()
    page.write_text(stored_page(path), encoding="utf-8")
    for wide, scheme in LOOKS:
        look(browser, page, wide, scheme)


@pytest.mark.skipif(not BUILT_PAGES, reason="no site is built; crmlab build reports/workbook.toml makes one")
@pytest.mark.parametrize(("wide", "scheme"), LOOKS)
@pytest.mark.parametrize("name", BUILT_PAGES or ["index.html"])
def test_every_page_of_the_built_workbook_opens_offline_without_errors_and_fits_the_screen(name, browser, wide, scheme):
    look(browser, BUILT / name, wide, scheme)


def test_the_report_shows_key_figures_tables_figures_and_formulas(site, browser):
    with opened(browser, site / "quick_customer_lifetime_value" / "index.html") as page:
        assert page.locator(".card").count() >= 3
        assert page.locator("main table").count() >= 8
        assert page.locator("main figure img").count() >= 2
        assert page.locator("math").count() >= 10
        assert page.locator("math").first.evaluate("m => m.getBoundingClientRect().width") > 5
        assert "$$" not in page.locator("main").inner_text()
        assert "clv.summarize(" not in page.content(), "no code on the page"
        assert page.locator(".change").count() >= 3, "what changed since the first build"


def test_without_scripts_a_page_says_the_same(site, browser):
    path = site / "quick_customer_lifetime_value" / "index.html"
    texts = {}
    for scripts in (True, False):
        with opened(browser, path, java_script_enabled=scripts) as page:
            page.add_style_tag(content=".tools { display: none }") if scripts else None
            texts[scripts] = page.locator("main").inner_text().split()
    assert texts[True] == texts[False]
    with opened(browser, site / "index.html", java_script_enabled=False) as page:
        assert page.locator("article").count() == 2
        assert not page.locator("input").is_visible(), "a search box would do nothing"


TABLE = """<table class="dataframe"><thead><tr><th></th><th>name</th><th>n</th><th>share</th></tr></thead><tbody>
<tr><th>0</th><td>Bea</td><td>9</td><td>–</td></tr><tr><th>1</th><td>=1+1</td><td>12,345</td><td>5%</td></tr>
<tr><th>2</th><td>ann</td><td>−3.5</td><td>40%</td></tr><tr><th>3</th><td>客户</td><td>1e3</td><td>7%</td></tr></tbody></table>
<table><thead><tr><th colspan="2">both</th></tr><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td rowspan="2">1</td>
<td>2</td></tr><tr><td>3</td></tr></tbody></table>"""


@pytest.fixture
def table(browser, tmp_path):
    """A page with a table, and one whose cells span rows."""
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    from crmlab.report.manifest import Run
    from crmlab.report.page import render
    from tests.stored import FACTS

    cell = new_code_cell("", outputs=[new_output("display_data", data={"text/html": TABLE})])
    run = Run("x", "Tables", tmp_path / "n.ipynb", {})
    path = tmp_path / "index.html"
    path.write_text(
        render(new_notebook(cells=[cell]), run, [], FACTS | {"warnings": []}, {}, [], False), encoding="utf-8"
    )
    with opened(browser, path, permissions=["clipboard-read", "clipboard-write"]) as page:
        yield page


def column(page, place):
    return page.locator(f"table.dataframe tbody tr > :nth-child({place})").all_inner_texts()


def test_a_click_on_a_header_sorts_by_numbers_and_words_and_a_third_restores(table):
    head = table.locator("table.dataframe th button")
    head.nth(2).click()
    assert column(table, 3) == ["−3.5", "9", "1e3", "12,345"]
    assert table.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"
    head.nth(2).click()
    assert column(table, 3) == ["12,345", "1e3", "9", "−3.5"]
    head.nth(2).click()
    assert column(table, 1) == ["0", "1", "2", "3"]
    assert table.locator("[aria-sort]").count() == 0
    head.nth(1).click()
    assert column(table, 2)[:3] == ["=1+1", "ann", "Bea"]
    for _ in range(2):
        head.nth(3).click()
    assert column(table, 4) == ["40%", "7%", "5%", "–"], "what is missing stays last"


def test_the_keyboard_sorts_too(table):
    table.locator("table.dataframe th button").nth(2).focus()
    table.keyboard.press("Enter")
    assert column(table, 3)[0] == "−3.5"
    table.keyboard.press("Space")
    assert column(table, 3)[0] == "12,345"


def test_a_table_whose_cells_span_rows_is_left_in_its_order(table):
    assert table.locator("main table").nth(1).locator("button").count() == 0


def test_a_table_is_copied_for_a_spreadsheet_in_the_order_shown_and_computes_nothing(table):
    table.locator("table.dataframe th button").nth(2).click()
    table.get_by_role("button", name="Copy").first.click()
    copied = table.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == [
        "\tname\tn\tshare",
        "2\tann\t−3.5\t40%",
        "0\tBea\t9\t–",
        "3\t客户\t1e3\t7%",
        "1\t'=1+1\t12345\t5%",
    ]
    assert table.get_by_role("button", name="Copied").count() == 1


def test_where_there_is_no_clipboard_a_table_is_copied_all_the_same(table):
    table.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    table.get_by_role("button", name="Copy").nth(1).click()
    table.wait_for_timeout(50)
    assert table.evaluate("navigator.clipboard.readText()") == "both\t\na\tb\n1\t2\n3"


def test_on_paper_there_are_no_buttons_and_no_contents(table):
    table.emulate_media(media="print")
    assert not table.get_by_role("button", name="Copy").first.is_visible()


def test_the_index_is_searched_as_one_types(site, browser):
    with opened(browser, site / "index.html") as page:
        shown = page.locator("article:visible h2")
        assert shown.count() == 2
        page.get_by_role("searchbox").press_sequentially("WORTH custom")
        assert shown.count() == 1
        assert page.locator("output").inner_text() == "1 of 2"
        page.get_by_role("searchbox").fill("")
        assert shown.count() == 2
        assert page.locator(".meta", has_text="(today)").count() == 2, "its age"


def test_an_earlier_report_says_so_and_leads_back(site, browser):
    (path,) = sorted((site / ".history" / "quick_customer_lifetime_value").glob("*/index.html"))
    with opened(browser, path) as page:
        assert page.get_by_text("This is an earlier report.").is_visible()
    with opened(browser, site / "quick_customer_lifetime_value" / "index.html") as page:
        assert not page.get_by_text("This is an earlier report.").is_visible()
