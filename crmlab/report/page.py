"""An executed notebook as one self-contained page: nothing is loaded from anywhere, nothing of the data can run.

Text and tables come from data, so everything that is HTML passes a sanitizer. Formulas and figures are made here and
put in afterwards, in place of marks that no data can guess. The one script is ours and is named by its hash in the
policy of the page; without it the page is all there too.
"""

import base64
import datetime
import functools
import hashlib
import html
import mimetypes
import re
import secrets
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from crmlab.data.masking import mask
from crmlab.report.history import changes, day

# fmt: off
_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details", "div", "dl",
    "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "mark",
    "ol", "p", "pre", "q", "s", "samp", "section", "small", "span", "strong", "sub", "summary", "sup", "table",
    "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
}
# fmt: on
_ATTRIBUTES = {"alt", "open", "scope", "style", "title"}
# Of the page's own classes, data shall have none.
_CLASSES = {"dataframe", "figure", "note", "record"}
_COUNTS = {"colspan", "rowspan", "span", "start", "width"}
_STYLES = {"background-color", "border", "color", "font-style", "font-weight", "text-align", "text-decoration", "width"}
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]+")
# Characters that a reader cannot see or that reorder what stands around them. A joiner belongs between letters of
# Persian, of Indian languages and of emoji.
_JOINED = "\u0590-\u1cff\u2190-\u2bff\ufb1d-\ufe0f\U0001f000-\U0001faff"
_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060"
    "\u2065-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
    f"|(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])"
)
_REFERENCE = re.compile(r"&#?\w+;?")
_LETTERS = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
# Signs and numbers between such words belong to them.
_RIGHT_TO_LEFT = re.compile(
    f"<[^>]*>|([{_LETTERS}][{_LETTERS}\u200c\u200d]*(?:[ .,;:!?'\"()/0-9-]+[{_LETTERS}\u200c\u200d]+)*)"
)
# How many parts a MathML element must have; a formula cut short leaves fewer.
_PARTS = {"mfrac": 2, "msup": 2, "msub": 2, "mover": 2, "munder": 2, "mroot": 2, "msubsup": 3, "munderover": 3}


class Content(NamedTuple):
    """What a notebook says: its title, its body with marks, what the marks stand for, its sections, what went wrong."""

    title: str | None
    body: str
    marks: list
    nonce: str
    contents: list
    warnings: list

    def restored(self, marks=None):
        """Return the body as HTML, in which all text is visible, with these contents of the marks or with its own."""
        return _restore(visible(self.body), self.nonce, self.marks if marks is None else marks)


def render(notebook, run, parameters, facts, figures, downloads, home, previous=None):
    """Render an executed notebook as a page.

    Parameters
    ----------
    notebook : dict
        The executed notebook, without records.
    run : Run
        What was executed; with its `code`, the code is on the page too, folded.
    parameters : list of Parameter
        The parameters that the notebook declares.
    facts : dict
        What run.json says; the warnings found on the way are added to its ``warnings``.
    figures : dict
        The recorded key figures.
    downloads : list of str
        Files beside the page, relative to it.
    home : bool
        Whether there is an index page to link to.
    previous : dict, optional
        The report that this one replaces, as `crmlab.report.history.report` reads it.

    Returns
    -------
    str
        The page.
    """
    content = read_content(notebook, run, parameters)
    facts.setdefault("warnings", []).extend(content.warnings)
    page = template("page.html").render(
        title=run.title,
        heading=content.title or run.title,
        # Of hexadecimal digits only, so that what is done to the page leaves it alone.
        body=content.nonce,
        contents=content.contents,
        figures=figures,
        changes=changes(figures, facts, previous),
        downloads=downloads,
        facts=facts,
        provenance=provenance_rows(facts),
        home=home,
    )
    return visible(page).replace(content.nonce, content.restored())


def provenance_rows(facts):
    """Say how a report was made.

    Parameters
    ----------
    facts : dict
        What run.json says.

    Returns
    -------
    list of tuple of str
        Name and text of each line.
    """
    git = facts["git"]
    rows = [
        ("Computed", f"{moment(facts['started'])}, in {_duration(facts['seconds'])}"),
        ("Data as of", facts.get("data_as_of") and day(facts["data_as_of"])),
        ("Source", git and f"git {git['commit']}{', with uncommitted changes' if git['dirty'] else ''}"),
        ("Notebook", f"{facts['notebook']['name']}, {_sum(facts['notebook']['sha256'])}"),
        *(("Data", f"{name}, {_sum(known)}") for name, known in facts["data"].items()),
        ("Locked packages", facts["lock_sha256"] and _sum(facts["lock_sha256"])),
        ("Software", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
        ("Platform", facts["platform"]),
    ]
    return [(name, text) for name, text in rows if text]


def _sum(text):
    return f"sha256 {text}" if re.fullmatch("[0-9a-f]{64}", text or "") else text or "not known"


def read_content(notebook, run, parameters):
    """Turn the cells of an executed notebook into markup that nothing of the data can break out of.

    Parameters
    ----------
    notebook : dict
        The executed notebook, without records.
    run : Run
        What was executed.
    parameters : list of Parameter
        The parameters that the notebook declares.

    Returns
    -------
    Content
        Title, body, figures and formulas, sections, warnings.
    """
    page = {
        "marks": [],
        "nonce": secrets.token_hex(16),
        # One a page, because it keeps state and pages are made in several threads.
        "cleaner": _cleaner(),
        "warnings": [],
        "contents": [],
        "title": None,
        "heading": run.title,
    }
    body = "\n".join(_cell(cell, run, parameters, page) for cell in notebook["cells"])
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    if stderr := sum(output.get("name") == "stderr" for output in outputs):
        page["warnings"].append(f"Messages of the software, not shown here but in the notebook: {stderr}.")
    # A heading that stood between broken tags may not have come through.
    anchors = {urllib.parse.quote(html.unescape(anchor)) for anchor in re.findall('<h2 id="([^"]*)"', body)}
    contents = [(anchor, text) for anchor, text in page["contents"] if anchor in anchors]
    return Content(page["title"], body, page["marks"], page["nonce"], contents, page["warnings"])


def visible(text):
    r"""Show what a text hides: characters that turn the order of others, take no room or control a terminal.

    Words written from right to left keep to themselves, so that numbers beside them stay where they are.

    Parameters
    ----------
    text : str
        Text or markup.

    Returns
    -------
    str
        The same with ``[U+202E]`` and the like for such characters.

    Examples
    --------
    >>> visible("Ann\u202enaitsirhC, A\u200bnn &#8238;")
    'Ann[U+202E]naitsirhC, A[U+200B]nn [U+202E]'
    """

    def named(match):
        return "".join(f"[U+{ord(letter):04X}]" if _ODD.match(letter) else letter for letter in html.unescape(match[0]))

    text = _REFERENCE.sub(lambda match: named(match) if _ODD.search(html.unescape(match[0])) else match[0], text)
    text = _ODD.sub(named, text)
    # Tags stay as they are: what is in them stands by itself, and addresses must not change.
    return _RIGHT_TO_LEFT.sub(lambda match: f"\u2068{match[1]}\u2069" if match[1] else match[0], text)


def template(name):
    """Return a template of this room; what it is given is escaped.

    Parameters
    ----------
    name : str
        File name of the template.

    Returns
    -------
    jinja2.Template
        The template, with the style sheet as ``style``.
    """
    return _environment().get_template(name)


@functools.cache
def _environment():
    import jinja2

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    script = (folder / "page.js").read_text(encoding="utf-8")
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "style": (folder / "style.css").read_text(encoding="utf-8"),
        "script": script,
        "policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{known}'",
    }
    environment.filters |= {"moment": moment, "day": day, "duration": _duration, "file": _file}
    return environment


def moment(text):
    """Write a moment of a record in words.

    Parameters
    ----------
    text : str
        Moment in ISO form.

    Returns
    -------
    str
        Such as "21 November 2026, 14:03 UTC".
    """
    return f"{day(text)}, {datetime.datetime.fromisoformat(text):%H:%M} UTC"


def _file(name):
    known = {"report.ipynb": "Notebook", "report.pdf": "PDF", "results.json": "Key figures (JSON)"}
    return known.get(name) or f"{Path(name).stem} ({Path(name).suffix[1:].upper()})"


def _duration(seconds):
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _cell(cell, run, parameters, page):
    tags = cell["metadata"].get("tags", [])
    if cell["cell_type"] == "markdown" and "remove-cell" not in tags:
        return _markdown(cell["source"], page, cell.get("attachments"), run.notebook.parent)
    if "parameters" in tags:
        return _parameter_table(parameters, run)
    if cell["cell_type"] != "code" or {"remove-cell", "injected-parameters"} & set(tags):
        return ""
    code = _code(cell["source"]) if run.code else ""
    return "\n".join([code, *(_output(output, cell, page) for output in cell["outputs"])])


def _code(source):
    if not source.strip():
        return ""
    return f'<details class="code"><summary>Code</summary><pre tabindex="0">{html.escape(source)}</pre></details>'


def _parameter_table(parameters, run):
    if not parameters:
        return ""
    values = {p.name: mask(p.default, run.known) for p in parameters} | run.shown
    rows = [(p.name, words(values[p.name]), p.description, p.name in run.shown) for p in parameters]
    return template("parameters.html").render(rows=rows)


def words(value):
    """Write the value of a parameter for a reader.

    Parameters
    ----------
    value : object
        What JSON can carry.

    Returns
    -------
    str
        The value, passwords masked.

    Examples
    --------
    >>> words([1, 2])
    '1, 2'
    """
    value = mask(value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _output(output, cell, page):
    if output["output_type"] == "stream":
        return "" if output["name"] == "stderr" else _preformatted(output["text"])
    if output["output_type"] == "error":
        return _preformatted(f"{output['ename']}: {output['evalue']}")
    data = output["data"]
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if kind in data:
            size = output["metadata"].get(kind, {})
            alt = cell["metadata"].get("alt") or size.get("alt") or output["metadata"].get("alt") or page["heading"]
            content = base64.b64encode(data[kind].encode()).decode() if kind == "image/svg+xml" else data[kind]
            picture = _picture(f"data:{kind};base64,{content}", str(alt), page, size.get("width"))
            return f"<figure>{picture}</figure>"
    if "text/html" in data:
        return f'<div class="output">{_sanitized(data["text/html"], page)}</div>'
    if "text/markdown" in data:
        return _markdown(data["text/markdown"], page)
    if "text/latex" in data:
        return f"<p>{_math(data['text/latex'].strip('$ '), page, 'block')}</p>"
    # What is left of a figure or an empty container says nothing to a reader.
    return "" if data.get("text/plain", "").startswith(("<", "[<")) else _preformatted(data.get("text/plain", ""))


def _preformatted(text):
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).strip("\n")
    return f'<pre tabindex="0">{html.escape(text)}</pre>' if text.strip() else ""


def _picture(source, alt, page, width=None):
    """Return a picture as markup, or its words when the source is none that a page can carry."""
    source = re.sub(r"\s", "", source)
    if not _IMAGE.fullmatch(source):
        return html.escape(alt)
    wide = f' width="{int(width)}"' if isinstance(width, int | float) else ""
    return _mark(f'<img src="{source}" alt="{html.escape(visible(alt))}"{wide}>', page)


def _mark(content, page):
    page["marks"].append(content)
    return f"{page['nonce']}-{len(page['marks']) - 1}-"


def _restore(text, nonce, marks):
    return re.sub(f"{nonce}-(\\d+)-", lambda match: marks[int(match[1])], text)


def _markdown(source, page, attachments=None, folder=None):
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def heading(self, text, level, **attributes):
            whole = _restore(text, page["nonce"], page["marks"])
            plain = visible(html.unescape(re.sub(r"<[^>]+>", "", whole)).strip())
            if level == 1 and page["title"] is None:
                # It stands in the head of the page.
                page["title"] = plain
                return ""
            level, page["heading"] = max(level, 2), plain
            # The anchor that JupyterLab gives it, so that links inside a notebook work here too.
            anchor = plain.replace(" ", "-")
            if level == 2:
                page["contents"].append((urllib.parse.quote(anchor), plain))
            return f'<h{level} id="{html.escape(anchor)}">{text}</h{level}>\n'

        def inline_math(self, body):
            return _math(body, page, "inline")

        def block_math(self, body):
            return _math(body, page, "block")

        def latex_environment(self, name, body):
            # A starred environment has no numbers, as in JupyterLab.
            name = f"{name}*" if name in ("align", "gather") else name
            return _math(f"\\begin{{{name}}}{body}\\end{{{name}}}", page, "block")

        def image(self, text, url, title=None):
            picture = _embedded(url, attachments or {}, folder)
            if not picture:
                page["warnings"].append(
                    f"The image {url} is not shown; only files beside the notebook are put in the page."
                )
            return _picture(picture, html.unescape(text), page)

    return _sanitized(MarkdownWithMath(renderer=Renderer(escape=False)).render(source), page)


def _embedded(url, attachments, folder):
    """Return an attachment of the cell or a file in the notebook's folder as a data address."""
    if url.startswith("attachment:"):
        kind, content = next(iter(attachments.get(urllib.parse.unquote(url[11:]), {"": ""}).items()))
        return f"data:{kind};base64,{content}"
    path = (folder / urllib.parse.unquote(url)).resolve() if folder and "://" not in url else None
    if path is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return ""
    return f"data:{mimetypes.guess_type(path)[0]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _math(source, page, display):
    """Turn a formula into MathML, or show its source when that fails."""
    from latex2mathml.converter import convert_to_element

    try:
        # Not its `convert`: that unescapes the text in the formula and so lets markup of the data through.
        formula = convert_to_element(source.strip(), display=display)
        for element in formula.iter():
            element.text = html.unescape(element.text) if element.text else element.text
            element.text = visible(element.text) if element.text else element.text
            if element.text == "~":
                element.tag, element.text = "mo", "∼"
            if "\\" in (element.text or "") or len(element) < _PARTS.get(element.tag, 0):
                raise ValueError(source)
            for name in {"href", "class", "style", "id"} & element.attrib.keys():
                del element.attrib[name]
        converted = ElementTree.tostring(formula, encoding="unicode")
    except Exception:
        page["warnings"].append(f"The formula “{source.strip()[:200]}” could not be set; its source is shown.")
        return _mark(f"<code>{html.escape(visible(source.strip()))}</code>", page)
    return _mark(f'<span class="formula">{converted}</span>' if display == "block" else converted, page)


def _sanitized(text, page):
    """Let through what a report needs of HTML, and put each table in a box that scrolls by itself."""
    # The sanitizer would keep the words inside of these.
    text = re.sub(r"(?is)<(script|style|title|noscript|template)\b.*?(</\1\s*>|\Z)", "", text)
    text = page["cleaner"].clean(text)
    # A page that is opened from here learns nothing of this one.
    text = text.replace("<a ", '<a rel="noopener noreferrer" ')
    # The page has one h1, its title.
    text = re.sub(r"<(/?)h1\b", r"<\1h2", text)
    return re.sub(r"<table\b", '<div class="scroll" tabindex="0"><table', text).replace("</table>", "</table></div>")


def _cleaner():
    from bleach.css_sanitizer import CSSSanitizer
    from bleach.sanitizer import Cleaner

    def allowed(tag, name, value):
        value = html.unescape(value)
        if name == "src":
            return tag == "img" and _IMAGE.fullmatch(value) is not None
        if name == "href":
            return tag == "a" and not re.sub(r"[\s\x00-\x20]", "", value).lower().startswith("data:")
        if name == "class":
            return _CLASSES.issuperset(value.split())
        if name in _COUNTS:
            return re.fullmatch(r"\d{1,4}%?", value) is not None
        return name in _ATTRIBUTES or (name == "id" and re.fullmatch("h[2-6]", tag) is not None)

    return Cleaner(
        tags=_TAGS,
        attributes=allowed,
        protocols=["http", "https", "mailto", "data"],
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
        strip=True,
    )
