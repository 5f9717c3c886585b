"""The promises of `crmlab.report.page`: self-contained, without code, nothing of the data can run."""

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from crmlab.report.manifest import Run
from crmlab.report.page import render, visible
from crmlab.report.parameters import Parameter
from tests.stored import NOTEBOOKS, stored_page

PNG = base64.b64encode(b"\x89PNG fake").decode()
FIGURE = {
    "label": "Value",
    "value": 38.7,
    "unit": "$",
    "text": "38.7 $",
    "interval": [36, 41],
    "interval_text": "36 to 41",
}
FACTS = {
    "started": "2026-11-21T14:03:00+00:00",
    "seconds": 75.2,
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "notebook": {"name": "n.ipynb", "sha256": "ab" * 32},
    "data": {"orders.csv": "cd" * 32},
    "lock_sha256": None,
    "versions": {"python": "3.11"},
    "platform": "Linux x86_64",
}
PARAMETERS = [
    Parameter("horizon", int, "int", 26, "weeks, how far"),
    Parameter("db", str, "str", "", "address"),
    Parameter("all", bool, "bool", True, ""),
]


@pytest.fixture
def page(tmp_path):
    """Render cells; what was warned about is in `page.facts`."""

    def make(*cells, values=None, figures=None, downloads=(), home=True, title="Customer value", **options):
        make.facts = FACTS | {"warnings": []} | options.pop("facts", {})
        previous = options.pop("previous", None)
        run = Run("x", title, tmp_path / "n.ipynb", values or {}, **options)
        notebook = new_notebook(cells=list(cells))
        return render(notebook, run, PARAMETERS, make.facts, figures or {}, downloads, home, previous)

    return make


def shown(data, **metadata):
    return new_code_cell("secret_code()", outputs=[new_output("display_data", data=data, metadata=metadata)])


class Reader(HTMLParser):
    """Collect tags and their attributes as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def all_tags(text, name):
    return [attributes for tag, attributes in Reader(text).tags if tag == name]


ATTACKS = [
    "<script>alert(1)</script>",
    "<scr<script></script>ipt>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href="java&#115;cript:alert(1)">x</a>',
    '<a href=" &#14; javascript:alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<a href="DaTa:text/html;base64,xx">x</a>',
    '<iframe src="https://evil.example"></iframe>',
    '<object data="x"></object><embed src="x">',
    "<style>body{background:url(https://evil.example)}</style>",
    '<td style="background:url(https://evil.example)">x</td>',
    '<link rel=stylesheet href="https://evil.example"><base href="https://evil.example">',
    '<meta http-equiv=refresh content="0;url=https://evil.example">',
    '<form action="https://evil.example"><input name=x></form>',
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    '<img src="https://evil.example/pixel.png">',
    '<div onclick="alert(1)" style="color:red">x</div>',
    "<!--><img src=x onerror=alert(1)>-->",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_from_the_data_can_run_or_load(page, attack):
    table = f"<table><tr><td>{attack}</td></tr></table>"
    text = page(
        new_markdown_cell(f"text {attack} text\n\n{attack}\n\n# {attack}\n\n## {attack}"),
        shown({"text/html": table}),
        shown({"text/markdown": attack}),
        shown({"text/plain": attack}),
        shown({"text/latex": f"$\\text{{{attack}}}$"}),
        new_code_cell("", outputs=[new_output("stream", name="stdout", text=attack)]),
        figures={"a": {"label": attack, "text": attack, "interval": None, "interval_text": attack}},
        values={"db": attack},
        title=attack,
    )
    for tag, attributes in Reader(text).tags:
        assert tag not in {"iframe", "object", "embed", "form", "input", "link", "base", "svg", "noscript"}
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not re.match(r"\W*(javascript|data):", attributes.get("href", ""), re.IGNORECASE)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert "url(" not in attributes.get("style", "")
        assert tag != "meta" or attributes.get("http-equiv", "Content-Security-Policy") == "Content-Security-Policy"
    assert text.count("<style>") == text.count("<script") == text.count("<script>") == 1


def test_the_page_forbids_loading_and_all_scripts_but_its_own_by_its_policy(page):
    text = page()
    policy = next(meta["content"] for meta in all_tags(text, "meta") if "http-equiv" in meta)
    script = re.search("<script>(.*?)</script>", text, re.DOTALL)[1]
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert dict(part.strip().split(" ", 1) for part in policy.split(";")) == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "script-src": f"'sha256-{known}'",
    }


def test_code_is_not_shown_and_parameters_are_a_table(page):
    cell = new_code_cell("horizon: int = 26  # secret_code", metadata={"tags": ["parameters"]})
    injected = new_code_cell("horizon = 52  # secret_code", metadata={"tags": ["injected-parameters"]})
    text = page(cell, injected, shown({"text/plain": "42"}), values={"horizon": 52, "db": "postgres://a:s3cret@h/d"})
    assert "secret_code" not in text
    assert "s3cret" not in text
    assert "<td><code>horizon</code></td><td><strong>52</strong></td><td>weeks, how far</td>" in text
    assert "<td><code>all</code></td><td>yes</td>" in text
    assert '<pre tabindex="0">42</pre>' in text


def test_code_is_folded_in_when_it_is_asked_for(page):
    cell = new_code_cell("horizon: int = 26  # secret_code", metadata={"tags": ["parameters"]})
    hidden = new_code_cell("hidden_code", metadata={"tags": ["remove-cell"]})
    text = page(cell, hidden, shown({"text/plain": "42"}), new_code_cell("a < b"), code=True)
    assert '<details class="code"><summary>Code</summary><pre tabindex="0">secret_code()</pre></details>' in text
    assert "a &lt; b" in text
    assert text.count('<details class="code"') == 2
    assert "hidden_code" not in text


def test_the_notebooks_title_is_the_only_h1_and_sections_are_the_contents(page):
    text = page(new_markdown_cell("# What is *it* worth?\n\n## Data & $x$\n\n## Method\n\n# Second\n\n<h1>raw</h1>"))
    assert re.findall(r"<h1>(.*?)</h1>", text) == ["What is it worth?"]
    assert "Customer value</p>" in text
    assert "<title>Customer value</title>" in text
    assert '<li><a href="#Method">Method</a></li>' in text
    assert '<h2 id="Method">Method</h2>' in text
    assert [h2["id"] for h2 in all_tags(text, "h2")[:3] if "id" in h2][1:] == ["Method", "Second"]


def test_formulas_are_mathml(page):
    text = page(
        new_markdown_cell("Inline $x_1 \\sim N$ and\n\n$$\\frac{a}{b}$$\n\n\\begin{align}a&=b\\\\c&=d\\end{align}"),
        shown({"text/latex": "$\\displaystyle e^x$"}),
    )
    assert len(all_tags(text, "math")) == 4
    assert "<mfrac>" in text
    assert "<mo>∼</mo>" in text
    assert "(1)" not in text
    assert page.facts["warnings"] == []


@pytest.mark.parametrize("formula", [r"\foobar{x}", r"\frac{a", r"\left( x", r"\begin{align} x"])
def test_a_formula_that_cannot_be_set_is_shown_as_source_and_told(page, formula):
    text = page(new_markdown_cell(f"See ${formula}$ here."))
    assert f"<code>{formula}</code>" in text
    assert "<math" not in text
    assert formula in page.facts["warnings"][0]
    assert page.facts["warnings"][0].replace("<", "&lt;") in text


def test_a_link_in_a_formula_goes_nowhere(page):
    text = page(new_markdown_cell(r"$\href{javascript:alert(1)}{x}$"))
    assert "javascript" not in text.replace(page.facts["warnings"][0] if page.facts["warnings"] else "", "")


def test_figures_are_inside_the_page_with_words(page):
    svg = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    named = shown({"image/png": PNG})
    named.metadata["alt"] = 'Sales "by" week'
    text = page(
        new_markdown_cell("## Sales"),
        shown({"image/png": PNG[:4] + "\n" + PNG[4:]}),
        named,
        shown({"image/png": PNG}, **{"image/png": {"alt": "from metadata", "width": 300}}),
        shown({"image/svg+xml": svg}),
    )
    images = all_tags(text, "img")
    assert [image["alt"] for image in images] == ["Sales", 'Sales "by" week', "from metadata", "Sales"]
    assert images[0]["src"] == f"data:image/png;base64,{PNG}"
    assert images[2]["width"] == "300"
    assert base64.b64decode(images[3]["src"].partition(",")[2]).decode() == svg


def test_pictures_of_the_text_are_put_in_and_others_are_told(page, tmp_path):
    (tmp_path / "map.png").write_bytes(b"\x89PNG")
    cell = new_markdown_cell(
        "![map](map.png) ![in](attachment:a.png) ![far](https://example.org/a.png) ![up](../../etc/passwd) ![no](g.png)"
    )
    cell.attachments = {"a.png": {"image/png": PNG}}
    images = all_tags(page(cell), "img")
    assert [image["alt"] for image in images] == ["map", "in"]
    assert len(page.facts["warnings"]) == 3


def test_tables_scroll_by_themselves_and_keep_their_form(page):
    text = page(
        shown({"text/html": '<table class="dataframe"><caption>C</caption><tr><td colspan="2">客户</td></tr></table>'})
    )
    assert '<div class="scroll" tabindex="0"><table class="dataframe">' in text
    assert '<td colspan="2">客户</td>' in text


def test_messages_of_the_software_are_counted_not_shown(page):
    text = page(new_code_cell("", outputs=[new_output("stream", name="stderr", text="FutureWarning: x")]))
    assert "FutureWarning" not in text
    assert page.facts["warnings"] == ["Messages of the software, not shown here but in the notebook: 1."]
    assert page.facts["warnings"][0] in text


def test_key_figures_files_and_origin_are_on_the_page(page):
    text = page(figures={"value": FIGURE}, downloads=["report.ipynb", "report.pdf", "tables/a.csv"])
    assert '<p class="value">38.7 $</p><p class="interval">95% interval 36 to 41</p>' in text
    assert '<a href="tables/a.csv" download>a (CSV)</a>' in text
    assert text.count('<a href="report.pdf" download>PDF</a>') == 2
    assert "21 November 2026, 14:03 UTC, in 1 min 15 s" in text
    assert "with uncommitted changes" in text
    assert "cd" * 32 in text


def test_the_day_of_the_data_is_on_top_and_in_the_box(page):
    text = page(facts={"data_as_of": "1998-06-30"})
    assert "Data as of 30 June 1998 · <time" in text
    assert '<th scope="row">Data as of</th><td>30 June 1998</td>' in text
    assert "Data as of" not in page()


def test_data_that_are_not_real_say_so_on_top(page):
    assert ">Data: simulated</strong>" in page(facts={"reality": "simulated"})
    assert "Data: " not in page()


def test_key_figures_say_what_changed_since_the_previous_report(page):
    figures = {
        "value": FIGURE,
        "rate": FIGURE | {"value": 12.5, "unit": "%", "text": "12.5%", "interval": [12, 13]},
        "n": FIGURE | {"value": 7, "unit": "", "text": "7", "interval": None},
        "state": FIGURE | {"value": "good", "unit": "", "text": "good", "interval": None},
        "euro": FIGURE | {"value": 5, "unit": "€", "text": "5 €", "interval": None},
        "gone": FIGURE | {"value": None, "unit": "", "text": "not a number", "interval": None},
        "new": FIGURE,
    }
    before = {
        "value": {"value": 37.5, "unit": "$", "text": "37.5 $"},
        "rate": {"value": 14.0, "unit": "%", "text": "14.0%"},
        "n": {"value": 7, "unit": "", "text": "7"},
        "state": {"value": "bad", "unit": "", "text": "<b>bad</b>"},
        "euro": {"value": 5, "unit": "$", "text": "5 $"},
        "gone": {"value": 3, "unit": "", "text": "3"},
        "old": {"value": 1, "unit": "", "text": "1"},
    }
    run = {"started": "2026-11-14T09:00:00+00:00", "parameters": {"horizon": 26}}
    text = page(
        figures=figures, previous={"run": run, "results": {"figures": before}}, facts={"parameters": {"horizon": 52}}
    )
    assert re.findall('<p class="change">(.*?)</p>', text) == [
        "+1.2 $ since 14 November 2026 (was 37.5 $), within the interval",
        "−1.5 points since 14 November 2026 (was 14.0%)",
        "unchanged since 14 November 2026",
        "&lt;b&gt;bad&lt;/b&gt; on 14 November 2026",
        "5 $ on 14 November 2026",
        "3 on 14 November 2026",
    ]
    assert "The report of 14 November 2026 had other parameters." in text
    assert "had other parameters" not in page(figures=figures)


def test_without_an_index_there_is_no_link_to_it(page):
    assert "../index.html" in page()
    assert "../index.html" not in page(home=False)


def test_the_frame_of_the_page_is_small_and_without_links(page):
    text = page()
    assert len(text) < 20_000
    assert "http://" not in text
    assert "https://" not in text
    assert '<html lang="en">' in text
    assert 'name="viewport"' in text


def test_text_that_looks_like_a_mark_stays_text(page):
    assert "0123456789abcdef-0-" in page(new_markdown_cell("0123456789abcdef-0- $x$"))


def test_the_style_is_in_the_package():
    import crmlab.report

    folder = Path(crmlab.report.__file__).parent
    assert (folder / "style.css").stat().st_size < 20_000


def test_the_largest_page_of_the_workbook_is_below_400_kb_without_its_figures():
    sizes = {}
    for path in NOTEBOOKS:
        text = re.sub('src="data:[^"]*"', "", stored_page(path))
        sizes[path.stem] = len(text.encode())
        assert '<p class="warning">' not in text.partition("<main")[2], path
    assert len(sizes) >= 9
    assert max(sizes.values()) < 400_000, sizes


HIDDEN = {
    "override": "\u202e", "embedding": "\u202b", "isolate": "\u2067", "mark": "\u200f", "zero-width": "\u200b",
    "byte order": "\ufeff", "soft hyphen": "\xad", "bell": "\x07", "escape": "\x1b", "C1": "\x9b",
    "line": "\u2028", "tag": "\U000e0041", "filler": "\u3164", "surrogate": "\ud800", "nonjoiner": "\u200c",
}  # fmt: skip


@pytest.mark.parametrize("letter", HIDDEN.values(), ids=HIDDEN)
def test_what_a_text_hides_is_shown(page, letter):
    name, told = f"Ann{letter}Lee", f"Ann[U+{ord(letter):04X}]Lee"
    text = page(
        new_markdown_cell(f"## {name}\n\nsays ${name}$\n\n## More"),
        shown({"text/html": f"<table><tr><td>{name}</td></tr></table>"}),
        shown({"text/html": f"<p>Ann&#{ord(letter)};Lee</p>"} if letter.isprintable() or ord(letter) > 0x9F else {}),
        shown({"text/plain": name}),
        shown({"image/png": PNG}, alt=name),
        figures={"a": FIGURE | {"label": name, "text": name}},
        values={"db": name},
        title=name,
    )
    assert letter not in text
    assert text.count(told) >= 7
    assert f'<a href="#Ann%5BU%2B{ord(letter):04X}%5DLee">' in text


def test_words_from_right_to_left_do_not_move_the_numbers_beside_them(page):
    text = page(shown({"text/markdown": "Best: שלום, 3 עולם 100, ΑΒ 客户 5; **علي** 7"}))
    assert "Best: \u2068שלום, 3 עולם\u2069 100, ΑΒ 客户 5; <strong>\u2068علي\u2069</strong> 7" in text


def test_joiners_stay_where_a_script_or_an_emoji_needs_them(page):
    assert "👨\u200d👩\u200d👧" in page(shown({"text/plain": "👨\u200d👩\u200d👧"}))
    assert "می\u200cخواهم" in page(shown({"text/plain": "می\u200cخواهم"}))
    assert "a[U+200D]b" in page(shown({"text/plain": "a\u200db"}))


def test_links_tell_nothing_to_where_they_lead(page):
    text = page(new_markdown_cell("[paper](https://doi.org/10.1/x) and [part](#Method)"))
    links = {link["href"]: link.get("rel") for link in all_tags(text, "a")}
    assert links["https://doi.org/10.1/x"] == "noopener noreferrer"
    assert next(meta for meta in all_tags(text, "meta") if meta.get("name") == "referrer")["content"] == "no-referrer"


@given(st.text())
def test_no_text_hides_anything_and_what_is_plain_stays_as_it_is(text):
    shown = visible(html.escape(text))
    # Isolates are put around words from right to left, always in pairs.
    assert not set(HIDDEN.values()) & set(shown)
    assert shown.count("\u2068") == shown.count("\u2069")
    plain = "".join(letter for letter in text if " " <= letter <= "~")
    assert html.unescape(visible(html.escape(plain))) == plain
