"""The built workbook as a reader sees it: every page in a browser, at desktop and phone width, without a network."""

import shutil
from pathlib import Path

import pytest

from crmlab.report import build, read_manifest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine; Debian: apt-get install chromium"
)
PAGES = ["index.html", *(f"{run.slug}/index.html" for run in read_manifest(ROOT / "reports" / "fast.toml"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    reports = build(ROOT / "reports" / "fast.toml", out)
    assert [report["status"] for report in reports] == ["ok"] * len(reports)
    return out


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_page_opens_offline_without_errors_and_fits_the_screen(site, browser, name, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / name).as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", (site / name).as_uri()))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "no sideways scrolling"
    assert page.locator("h1").count() == 1
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).length"
    assert page.evaluate(broken) == 0
    for link in page.locator("a[href]").all():
        target = link.get_attribute("href")
        if not target.startswith(("http", "#", "mailto")):
            assert (site / name).parent.joinpath(target).resolve().exists(), target
    context.close()


def test_the_report_shows_key_figures_tables_figures_and_formulas(site, browser):
    page = browser.new_page()
    page.goto((site / "quick_customer_lifetime_value" / "index.html").as_uri())
    assert page.locator(".card").count() >= 3
    assert page.locator("main table").count() >= 8
    assert page.locator("main figure img").count() >= 2
    assert page.locator("math").count() >= 10
    assert page.locator("math").first.evaluate("m => m.getBoundingClientRect().width") > 5
    assert "$$" not in page.locator("main").inner_text()
    assert "clv.summarize(" not in page.content(), "no code on the page"
    page.close()
