"""Data are hostile: names that attack run through a whole build, and in a real browser nothing happens.

The names stand in tables, sentences, Markdown, HTML, SVG and LaTeX outputs, in the words of figures, key figures,
parameters, titles, file names, and in the message of a report that fails. That PDF takes nothing of them for code is in
`tests.test_pdf`.
"""

import csv
import functools
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from crmlab.report import build, results
from tests.browser import check_page, needs_browser, open_browser, opened
from tests.test_page import ATTACKS, HIDDEN

NAMES = [
    *ATTACKS,
    "</style><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title></head><body onload=alert(1)>",
    "<!--<script>alert(1)",
    "--><img src=x onerror=alert(1)>",
    "]]><script>alert(1)</script>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video><source onerror=alert(1)></video>",
    "<a href='https://evil.example' target=_blank>x</a>",
    "<a href='vbscript:alert(1)'>x</a>",
    "<a href='file:///etc/passwd'>x</a>",
    "<p class='skip' style='position:fixed;inset:0;width:99999px'>x</p>",
    "<h2 id='report'>x</h2><p data-search hidden>x</p>",
    "<img name=body><img name=getElementById>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "![x](https://evil.example/pixel.png)",
    "![x](//evil.example/pixel.png)",
    "![x](x.png 'onerror=alert(1)')",
    "<https://evil.example/auto>",
    "[x]: javascript:alert(1)\n\n[x]",
    "```html\n<script>alert(1)</script>\n```",
    "# heading <script>alert(1)</script>",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{<script>alert(1)</script>}$",
    "$\\text{&lt;img src=x onerror=alert(1)&gt;}$",
    "$\\unicode{<img src=x onerror=alert(1)>}$",
    "$$\\style{background:url(https://evil.example)}{x}$$",
    "$\\class{skip}{x}$ $\\require{html} \\cssId{report}{x}$",
    "\\begin{align}<script>alert(1)</script>\\end{align}",
    "{{ 7 * 7 }}{% include 'page.py' %}{{ cycler.__init__.__globals__ }}",
    "{{ '</script>' | safe }}",
    "%s %(x)s {0} {x!r} \\x3cscript\\x3e \\u003cscript\\u003e",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "=HYPERLINK(\"https://evil.example\";\"x\")",
    "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "＝1+1",
    "../../../etc/passwd", "C:\\Windows", "a\x00b", "a\rb\nc\td",
    "客户 <b>", "שלום 100", "مرحبا <i>", "👨‍👩‍👧", "Z̷̡a̶l̸g̵o̴", "x" * 3000, "<" * 2000, "[" * 2000, "*" * 2000,
    # Half a character never gets out of a kernel.
    *(f"Ann{letter}Lee" for letter in HIDDEN.values() if letter != "\ud800"),
]  # fmt: skip

CELLS = [
    "import json\nimport pandas as pd\nfrom IPython.display import HTML, SVG, Latex, Markdown, display\n"
    "from crmlab.report import record, record_table, say\n"
    "names = json.loads(open('names.json').read())",
    "pd.DataFrame({'name': names, 'n': range(len(names))}).set_index('name')",
    "pd.DataFrame([range(len(names))], columns=names)",
    "pd.DataFrame({'name': names}).style",
    "record_table('names', pd.DataFrame({'name': names, names[0]: 1}), caption=names[0])\n"
    "for i in range(20, len(names), 20):\n"
    "    record_table(f'names_{i}', pd.DataFrame({'name': names[i : i + 20], 'n': 1}), caption=names[i])",
    "for i, name in enumerate(names):\n"
    "    record(f'label_{i}', 1, unit=name, label=name)\n"
    "    record(f'value_{i}', name)",
    "for name in names:\n    say(f'Best customer: {name}, with $100.')\n    say(name)",
    "for name in names:\n"
    "    display(Markdown(name), HTML(name), HTML(f'<div title=\"{name}\">x</div>'))\n"
    "    display(Latex(f'${name}$'))\n    display(Latex(name))",
    "for name in names:\n"
    "    svg = f'<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><g>{name}</g></svg>'\n"
    "    display({'image/svg+xml': svg, 'text/plain': name}, raw=True, metadata={'image/svg+xml': {'alt': name}})\n"
    "svg = '<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\" onload=\"alert(1)\">'\n"
    "svg += '<script>alert(1)</script>'\n"
    "svg += '<image href=\"https://evil.example/x.png\"/><style>@import url(https://evil.example);</style></svg>'\n"
    "display({'image/svg+xml': svg}, raw=True, metadata={'alt': names[0]})",
    "print(*names, sep='\\n')\nnames",
    "display({'application/javascript': 'alert(1)', 'text/plain': 'x'}, raw=True)\n"
    "display({'application/vnd.jupyter.widget-view+json': {'model_id': 'x'}, 'text/plain': 'x'}, raw=True)",
]  # fmt: skip


def write(path, *cells):
    head = new_code_cell("who: list[str] = []  # <script>alert(1)</script>", metadata={"tags": ["parameters"]})
    text = new_markdown_cell(f"# Who is {NAMES[0]}?\n\n## {NAMES[1]}\n\n" + "\n\n".join(NAMES))
    nbformat.write(new_notebook(cells=[text, head, *map(new_code_cell, cells)]), path)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of a report of such names and of one that fails with them, each built twice."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "names.json").write_text(json.dumps(NAMES))
    write(folder / "names.ipynb", *CELLS)
    write(folder / "fails.ipynb", CELLS[0], "raise RuntimeError(' '.join(names))")
    write(folder / "small.ipynb", CELLS[0], CELLS[5])
    toml = functools.partial(json.dumps, ensure_ascii=False)
    names = [name for name in NAMES if name.isprintable()]
    manifest = folder / "m.toml"
    manifest.write_text(
        f"""
        [[report]]
        name = "names"
        notebook = "names.ipynb"
        title = {toml(" ".join(names[:20]))}
        code = true
        parameters.who = {toml(names)}
        [[report]]
        name = "fails"
        notebook = "fails.ipynb"
        title = {toml(" ".join(names[20:40]))}
        [[report]]
        name = "small"
        notebook = "small.ipynb"
        matrix.who = [[{toml(names[0])}], ["../x"]]
        """
    )
    facts = build(manifest, folder / "site")
    assert [one["status"] for one in facts] == ["ok", "failed", "ok", "ok"], [one["error"] for one in facts]
    build(manifest, folder / "site", only="small*", force=True)
    return folder / "site"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


_TOUCH = """kinds => {
  document.querySelectorAll("details").forEach(part => (part.open = true));
  for (const part of document.querySelectorAll("body *")) for (const kind of kinds) part.dispatchEvent(new Event(kind));
}"""
_KINDS = ["mouseover", "mouseenter", "focus", "toggle", "pointerdown", "error", "load"]


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_loads_or_moves_in_a_real_browser(site, browser, width):
    pages = sorted(site.rglob("index.html"))
    assert len(pages) >= 4
    for path in pages:
        with opened(browser, path, width) as page:
            # A picture that is none is left to its words.
            check_page(page, path, width, letters=False, pictures=False)
            # Whatever waits for a reader to touch it.
            page.evaluate(_TOUCH, _KINDS)
            for name in ("th button", ".tools button"):
                for button in page.locator(name).all()[:15]:
                    button.click()
            if page.get_by_role("searchbox").count():
                for name in NAMES[:20]:
                    page.get_by_role("searchbox").fill(name)
            assert page.evaluate("document.scripts.length") == 1
            assert page.evaluate("document.styleSheets.length") == 1
            assert page.locator("iframe, object, embed, form:not([data-search]), base, link, video").count() == 0
            assert page.evaluate("[...document.querySelectorAll('input')].filter(i => i.type != 'search').length") == 0


@needs_browser
def test_what_is_clicked_leads_nowhere_but_where_it_says(site, browser):
    with opened(browser, site / "names" / "index.html") as page:
        links = page.evaluate("[...document.querySelectorAll('main a[href]')].map(a => [a.href, a.rel, a.target])")
    assert links
    for address, relation, target in links:
        assert re.match(r"https?:|mailto:|file:.*/names/index\.html#", address), address
        assert relation == "noopener noreferrer"
        assert target == ""


@needs_browser
def test_names_do_not_change_the_order_of_the_words_beside_them(site, browser):
    """What stands before a name is left of it and what comes after right of it, whatever the name is."""
    with opened(browser, site / "names" / "index.html", width=4000) as page:
        seen, wrong = page.evaluate("""() => {
          const place = (node, from, to) => {
            const range = document.createRange();
            range.setStart(node, from);
            range.setEnd(node, to);
            return range.getBoundingClientRect();
          };
          const wrong = [], seen = [];
          for (const p of document.querySelectorAll("main p")) {
            const text = p.firstChild;
            if (p.childNodes.length != 1 || text.nodeType != 3 || p.getBoundingClientRect().height > 40) continue;
            const end = text.data.indexOf(", with $100.");
            if (!text.data.startsWith("Best customer: ") || end < 0) continue;
            const [first, last] = [place(text, 0, 4), place(text, end + 2, end + 6)];
            const sum = place(text, end + 8, end + 11);
            seen.push(text.data);
            if (!(first.right < last.left && last.right < sum.left)) wrong.push(text.data);
          }
          return [seen, wrong];
        }""")
    assert len(seen) >= 40
    assert wrong == []


def test_templates_take_nothing_of_the_data_for_their_own(site):
    for path in site.rglob("index.html"):
        text = path.read_text(encoding="utf-8")
        assert "__globals__ }}" in text or "__globals__" not in text
        assert "49{" not in text
        assert "root:x:" not in text


def test_all_that_is_hidden_is_shown_in_every_page_and_nothing_hidden_is_left(site):
    for path in site.rglob("index.html"):
        text = path.read_text(encoding="utf-8")
        for letter in HIDDEN.values():
            assert letter not in text, (path, hex(ord(letter)))
    text = (site / "names" / "index.html").read_text(encoding="utf-8")
    for letter in set(HIDDEN.values()) - {"\ud800"}:
        assert f"Ann[U+{ord(letter):04X}]Lee" in text
    assert "[U+202E]" in (site / "index.html").read_text(encoding="utf-8"), "the message of the report that failed"


def test_no_file_of_numbers_computes_in_a_spreadsheet(site):
    begins = ("=", "+", "-", "@", "\t", "\r", "\n", "＝")
    tables = sorted(site.rglob("tables/*.csv"))
    assert len(tables) >= 4
    for path in tables:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
        assert not [cell for row in rows for cell in row if cell.startswith(begins)], path
    kept = json.loads((site / "names" / "results.json").read_text(encoding="utf-8"))["figures"]
    assert kept[f"value_{NAMES.index('+1')}"]["value"] == "+1", "the JSON has the name as it is"
    assert set(results(site)["report"]) >= {"names"}


def test_names_stay_in_their_folders(site):
    for path in site.parent.rglob("*"):
        assert path.resolve().is_relative_to(site.parent.resolve())
    assert {path.name for path in site.iterdir() if not path.name.startswith(".")} >= {"index.html", "names"}
    assert not (site / "fails").exists()
