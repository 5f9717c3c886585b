"""A real browser for the pages: what it says, asks for, shows and cannot show."""

import contextlib
import shutil
from urllib.parse import unquote, urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine; Debian: apt-get install chromium"
)
WIDTHS = {"phone": 390, "desktop": 1280}


@contextlib.contextmanager
def open_browser():
    """Start Chromium; it reaches no network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, path, width=1280, scheme="light", **options):
    """Open a page offline and check at the end that it said nothing and asked for nothing but itself."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, **options
    )
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: told.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (told.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("popup", lambda popup: told.append(f"window: {popup.url}"))
    page.on("download", lambda download: told.append(f"download: {download.url}"))
    page.on("request", lambda request: told.append(f"request: {request.url}"))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective));"
    )
    page.goto(path.as_uri())
    yield page
    page.wait_for_timeout(50)
    allowed = (f"request: {path.as_uri()}", "request: data:image/")
    assert [line for line in told if not line.startswith(allowed)] == []
    context.close()


def check_page(page, path, width, letters=True, pictures=True):
    """Check what every page promises: it fits, all pictures and letters show, all links lead somewhere."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "no sideways scrolling"
    assert page.evaluate(_TOO_WIDE) == []
    assert page.locator("h1").count() == 1
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).length"
    assert not pictures or page.evaluate(broken) == 0
    assert not letters or page.evaluate(_MISSING_GLYPHS) == []
    for target in page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))"):
        address = urlsplit(target)
        if address.scheme in ("http", "https", "mailto"):
            continue
        assert not address.scheme, target
        assert (path.parent / unquote(address.path)).resolve().exists(), target
        if target.startswith("#"):
            assert page.evaluate("id => !!document.getElementById(id)", unquote(address.fragment)), target


# What stands out of the text's column, but for what scrolls by itself.
_TOO_WIDE = """() => {
  const main = document.querySelector("main"), right = main.getBoundingClientRect().right + 1;
  return [...main.querySelectorAll("*")]
    .filter(e => !e.parentElement.closest(".scroll, pre, .formula, svg") && e.getBoundingClientRect().right > right)
    .map(e => e.outerHTML.slice(0, 200));
}"""

# A letter without a glyph is drawn like one that no font can have.
_MISSING_GLYPHS = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 40 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const drawn = (letter, font) => {
    pen.clearRect(0, 0, 40, 40);
    pen.font = `20px ${font}`;
    pen.fillText(letter, 5, 28);
    return pen.getImageData(0, 0, 40, 40).data.join();
  };
  const missing = [];
  for (const [selector, except] of [["body", "math, script, style"], ["math", ""]]) {
    const letters = new Set();
    for (const part of document.querySelectorAll(selector)) {
      const copy = part.cloneNode(true);
      if (except) copy.querySelectorAll(except).forEach(e => e.remove());
      for (const letter of copy.textContent) letters.add(letter);
    }
    if (!letters.size) continue;
    const font = getComputedStyle(document.querySelector(selector)).fontFamily;
    const box = drawn("\\u{10ffff}", font);
    for (const letter of letters) {
      if (/[\\s\\p{C}\\p{M}]/u.test(letter) || /[\\u2061-\\u2064]/.test(letter)) continue;
      if (drawn(letter, font) === box) missing.push(letter);
    }
  }
  return missing;
}"""
