"""An executed notebook as one self-contained page: no code, no scripts, nothing loaded from anywhere.

Text and tables come from data, so everything that is HTML passes a sanitizer. Formulas and figures are made here and
put in afterwards, in place of marks that no data can guess.
"""

import base64
import datetime
import functools
import html
import mimetypes
import re
import secrets
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from crmlab.data.masking import mask

# fmt: off
_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details", "div", "dl",
    "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "mark",
    "ol", "p", "pre", "q", "s", "samp", "section", "small", "span", "strong", "sub", "summary", "sup", "table",
    "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
}
# fmt: on
_ATTRIBUTES = {"alt", "class", "colspan", "open", "rowspan", "scope", "span", "start", "style", "title", "width"}
_STYLES = {"background-color", "border", "color", "font-style", "font-weight", "text-align", "text-decoration", "width"}
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]+")
# How many parts a MathML element must have; a formula cut short leaves fewer.
_PARTS = {"mfrac": 2, "msup": 2, "msub": 2, "mover": 2, "munder": 2, "mroot": 2, "msubsup": 3, "munderover": 3}


def render(notebook, run, parameters, facts, figures, downloads, home):
    """Render an executed notebook as a page.

    Parameters
    ----------
    notebook : dict
        The executed notebook, without records.
    run : Run
        What was executed.
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

    Returns
    -------
    str
        The page.
    """
    page = {
        "marks": [],
        "nonce": secrets.token_hex(8),
        # One a page, because it keeps state and pages are made in several threads.
        "cleaner": _cleaner(),
        "warnings": facts.setdefault("warnings", []),
        "contents": [],
        "title": None,
        "heading": run.title,
    }
    body = "\n".join(_cell(cell, run, parameters, page) for cell in notebook["cells"])
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    if stderr := sum(output.get("name") == "stderr" for output in outputs):
        page["warnings"].append(f"Messages of the software, not shown here but in the notebook: {stderr}.")
    return template("page.html").render(
        title=run.title,
        heading=page["title"] or run.title,
        body=_restore(body, page),
        contents=page["contents"],
        figures=list(figures.values()),
        downloads=downloads,
        facts=facts,
        home=home,
    )


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
    environment.globals["style"] = (folder / "style.css").read_text(encoding="utf-8")
    environment.filters |= {"moment": _moment, "duration": _duration}
    return environment


def _moment(text):
    moment = datetime.datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _duration(seconds):
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _cell(cell, run, parameters, page):
    tags = cell["metadata"].get("tags", [])
    if cell["cell_type"] == "markdown" and "remove-cell" not in tags:
        return _markdown(cell["source"], page, cell.get("attachments"), run.notebook.parent)
    if "parameters" in tags:
        return _parameter_table(parameters, run.parameters)
    if cell["cell_type"] != "code" or {"remove-cell", "injected-parameters"} & set(tags):
        return ""
    return "\n".join(_output(output, cell, page) for output in cell["outputs"])


def _parameter_table(parameters, values):
    if not parameters:
        return ""
    rows = [(p.name, _value(values.get(p.name, p.default)), p.description, p.name in values) for p in parameters]
    return template("parameters.html").render(rows=rows)


def _value(value):
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
    return _mark(f'<img src="{source}" alt="{html.escape(alt)}"{wide}>', page)


def _mark(content, page):
    page["marks"].append(content)
    return f"{page['nonce']}-{len(page['marks']) - 1}-"


def _restore(text, page):
    return re.sub(f"{page['nonce']}-(\\d+)-", lambda match: page["marks"][int(match[1])], text)


def _markdown(source, page, attachments=None, folder=None):
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def heading(self, text, level, **attributes):
            plain = html.unescape(re.sub(r"<[^>]+>", "", _restore(text, page))).strip()
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
            if element.text == "~":
                element.tag, element.text = "mo", "∼"
            if "\\" in (element.text or "") or len(element) < _PARTS.get(element.tag, 0):
                raise ValueError(source)
            for name in {"href", "class", "style", "id"} & element.attrib.keys():
                del element.attrib[name]
        converted = ElementTree.tostring(formula, encoding="unicode")
    except Exception:
        page["warnings"].append(f"The formula “{source.strip()[:200]}” could not be set; its source is shown.")
        return _mark(f"<code>{html.escape(source.strip())}</code>", page)
    return _mark(f'<span class="formula">{converted}</span>' if display == "block" else converted, page)


def _sanitized(text, page):
    """Let through what a report needs of HTML, and put each table in a box that scrolls by itself."""
    # The sanitizer would keep the words inside of these.
    text = re.sub(r"(?is)<(script|style|title|noscript|template)\b.*?(</\1\s*>|\Z)", "", text)
    text = page["cleaner"].clean(text)
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
        return name in _ATTRIBUTES or (name == "id" and re.fullmatch("h[2-6]", tag) is not None)

    return Cleaner(
        tags=_TAGS,
        attributes=allowed,
        protocols=["http", "https", "mailto", "data"],
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
        strip=True,
    )
