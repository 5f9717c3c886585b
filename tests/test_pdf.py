"""The promises of `crmlab.report.pdf`: what the page shows, on paper, Chinese text included, no code."""

import base64
import re
import sys

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from crmlab.report.manifest import Run
from crmlab.report.parameters import Parameter
from crmlab.report.pdf import pdf
from tests.pdftext import pdf_text
from tests.stored import FACTS, NOTEBOOKS, stored

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one red point
)
FIGURE = {
    "label": "Value of a 客户",
    "value": 38.7,
    "unit": "$",
    "text": "38.7 $",
    "interval": [36, 41],
    "interval_text": "36 to 41",
}


def shown(data, **metadata):
    return new_code_cell("secret_code()", outputs=[new_output("display_data", data=data, metadata=metadata)])


@pytest.fixture
def paper(tmp_path):
    """Set cells; what was warned about is in `paper.facts`, the PDF in `paper.content`."""

    def make(*cells, figures=None, values=None, previous=None):
        make.facts = FACTS | {"warnings": []}
        run = Run("x", "Customer value", tmp_path / "n.ipynb", values or {}, code=True)
        parameters = [Parameter("db", str, "str", "", "address")]
        make.content = pdf(new_notebook(cells=list(cells)), run, parameters, make.facts, figures or {}, previous)
        return re.sub(r"\s+", "", "".join(pdf_text(make.content)))

    return make


def test_title_figures_tables_formulas_and_origin_are_on_paper_and_code_is_not(paper):
    previous = {
        "run": {"started": "2026-11-14T09:00:00+00:00"},
        "results": {"figures": {"value": {"value": 37.5, "unit": "$", "text": "37.5 $"}}},
    }
    text = paper(
        new_markdown_cell("# What is a 客户 worth?\n\n## Method & data\n\n$$\\frac{a}{b} \\sim N$$"),
        new_code_cell("db: str = ''", metadata={"tags": ["parameters"]}),
        shown({"text/html": '<table class="dataframe"><thead><tr><th></th><th>n</th></tr></thead>'
               "<tbody><tr><th>顾客</th><td>42</td></tr></tbody></table>"}),
        shown({"image/png": PNG}, alt="one point"),
        figures={"value": FIGURE},
        values={"db": "postgres://ann:s3cret@h/d"},
        previous=previous,
    )  # fmt: skip
    for part in (
        "Whatisa客户worth?",
        "Valueofa客户",
        "38.7$",
        "95%interval36to41",
        "+1.2$since14November2026(was37.5$),withintheinterval",
        "Contents",
        "Method&data",
        "顾客",
        "42",
        "HowthisreportwasmadeComputed21November2026,14:03UTC",
        "Dataasof30June1998",
        "postgres://ann:***@h/d",
    ):
        assert part in text, part
    # The letters of a formula are letters of the alphabet of mathematics.
    assert {"𝑎", "𝑏", "∼"} <= set(text)
    assert "secret_code" not in text
    assert "s3cret" not in text
    assert paper.facts["warnings"] == []


def test_chinese_text_is_embedded_with_a_font_and_its_meaning(paper):
    text = paper(new_markdown_cell("「客戶滿意是一種心理的滿足」 顾客忠诚"))
    assert "「客戶滿意是一種心理的滿足」顾客忠诚" in text
    assert paper.content.count(b"/FontFile") >= 2
    assert b"/OutputIntents" in paper.content, "what archives ask for"


def test_pages_are_numbered(paper):
    paper(*[new_markdown_cell(f"## Part {i}\n\n" + "words " * 600) for i in range(6)])
    pages = pdf_text(paper.content)
    assert len(pages) >= 5
    assert [re.findall(r"\d+ ?/ ?\d+", page)[-1].replace(" ", "") for page in pages] == [
        f"{number}/{len(pages)}" for number in range(1, len(pages) + 1)
    ]


def test_rules_and_formulas_that_typst_does_not_know_are_no_obstacle(paper):
    text = paper(new_markdown_cell("a\n\n---\n\n$x^2$ and $\\text{so} + שלום$\n\n> quoted\n\n1998. year"))
    assert {"𝑥", "ש"} <= set(text)
    assert re.fullmatch("PDF: the formula .* could not be set; its letters are shown.", paper.facts["warnings"][0])
    assert len(paper.facts["warnings"]) == 1


def test_pictures_have_their_words_and_a_broken_one_is_left_to_them(paper):
    outside = "<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/hostname.png' width='9' height='9'/></svg>"
    svg = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(1)</script></svg>"
    text = paper(
        shown({"image/png": PNG}, alt='Sales "by" \\week'),
        shown({"image/png": base64.b64encode(b"\x89PNG nothing").decode()}, alt="a broken picture #panic()"),
        shown({"image/svg+xml": outside}, alt="a picture that loads another"),
        shown({"image/svg+xml": svg}, alt="a picture with a script"),
    )
    assert "[abrokenpicture#panic()][apicturethatloadsanother]" in text
    assert "apicturewithascript" not in text
    assert b'Sales "by" \\\\week' in paper.content
    assert b"alert" not in paper.content


def test_what_no_font_has_is_told(paper):
    paper(new_markdown_cell("old 𒀀 and 𒀁"), figures={"value": FIGURE})
    assert "PDF: no font of this machine has 𒀀" in paper.facts["warnings"][0]
    assert "apt-get install fonts-noto-cjk" in paper.facts["warnings"][0]
    assert paper.content.startswith(b"%PDF")


def test_without_a_chinese_font_the_pdf_is_made_and_says_so(paper, monkeypatch):
    import typst

    embedded = typst.Fonts(include_system_fonts=False)
    monkeypatch.setattr(typst, "Fonts", lambda: embedded)
    monkeypatch.setattr(typst, "compile", _without_system_fonts(typst.compile))
    text = paper(new_markdown_cell("顾客 and words"))
    assert "andwords" in text
    assert "顾" in paper.facts["warnings"][0]


def _without_system_fonts(original):
    return lambda *arguments, **options: original(*arguments, ignore_system_fonts=True, **options)


def test_without_the_extra_the_message_says_what_to_install(paper, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(ValueError, match=r"pip install 'crmlab\[pdf\]', or take \"pdf\" out of formats"):
        paper()


HOSTILE = [
    '#panic("x")',
    '#read("report.typ")',
    "#eval(sys.inputs.facts)",
    "$#panic(1)$",
    "#{panic()}",
    '#import "@preview/x:0.1.0": *',
    "] #panic() [",
    ") #panic() (",
    '"#panic()"',
    "\\#panic()",
    "\\",
    "`#panic()`",
    "```typ\n#panic()\n```",
    "`#panic()`{=typst}",
    "```{=typst}\n#panic()\n```",
    "<label>",
    "@reference",
    "[link](#nowhere)",
    "[mail](javascript:alert(1))",
    "[e]()",
    "= not a heading",
    "- no list",
    "+ no list",
    "/ term: no",
    "// no comment",
    "/* no comment",
    "*/",
    "~",
    "_a_b_",
    "*a*b*",
    "--",
    "...",
    "''",
    "%s {} {{x}}",
    "\\input{/etc/passwd}",
    "$\\input{/etc/passwd}$",
    "$\\text{#panic()}$",
    '$\\text{"); #panic("}$',
    "$#$",
    "$\\unknown{a$",
    "&#35;panic()",
    "<!-- #panic() -->",
    "![x](https://evil.example/x.png)",
    "<p typst:text:size='#panic()'>x</p>",
    "<a href=''>x</a>",
    "<h2 id=''></h2>",
    "<table><tr><td rowspan='0' colspan='99999'>x</td></tr></table>",
    "<table></table>",
    "<ol start='-99999999999999999999'><li>x</ol>",
    "\u2028",
    "<div style='width:99999px'>x</div>",
    "a" * 3000,
]


def test_nothing_of_the_data_is_taken_for_typst(paper):
    """All at once, because each PDF takes a second; where one broke in, all would fail."""
    cells = []
    for text in HOSTILE:
        words = text.replace("&", "&amp;").replace("<", "&lt;")
        table = f"<table><caption>{words}</caption><tr><th>{words}</th><td>{words}</td></tr></table>"
        cells += [
            new_markdown_cell(f"Text {text} text\n\n{text}\n\n## {text}"),
            shown({"text/html": table}),
            shown({"text/html": text}),
            shown({"text/markdown": text}),
            shown({"text/plain": text}),
            shown({"text/latex": f"${text}$"}),
            shown({"image/png": PNG}, alt=text),
        ]
    figures = {
        f"f{i}": FIGURE | {"label": text, "text": text, "interval_text": text} for i, text in enumerate(HOSTILE[:40])
    }
    text = paper(*cells, figures=figures, values={"db": " ".join(HOSTILE[:40])})
    told = [re.sub(r"\s+", "", part) for part in HOSTILE[:6]]
    # As words: in the table, as plain output, in the figures and the parameter.
    assert all(text.count(part) >= 4 for part in told), [(part, text.count(part)) for part in told]
    assert "root:" not in text
    assert not [warning for warning in paper.facts["warnings"] if "no font" not in warning]


@pytest.mark.parametrize("path", [NOTEBOOKS[4], NOTEBOOKS[-2]], ids=lambda path: path.stem)
def test_a_notebook_of_the_workbook_is_set_without_a_warning(path):
    run, notebook, parameters, facts, figures = stored(path)
    content = pdf(notebook, run, parameters, facts, figures)
    text = "".join(pdf_text(content))
    assert facts["warnings"] == []
    assert re.search("[\u4e00-\u9fff]{4}", text)
    # A long title is broken into lines.
    assert run.title in " ".join(text.split())
    assert content.count(b"/Subtype/Image") >= 5
