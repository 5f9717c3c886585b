"""An executed notebook as a PDF: what the page shows, set by Typst; needs the extra ``pdf``.

The body goes from the page's sanitized HTML through pandoc, which writes every text of the data as text, to Typst. What
stands around it travels as JSON. Neither of the two programs may read or load anything but the files made here.
"""

import base64
import dataclasses
import datetime
import functools
import html
import json
import re
import subprocess
import tempfile
from pathlib import Path

from crmlab.plots import CJK
from crmlab.report.history import changes, day
from crmlab.report.page import moment, provenance_rows, read_content, visible

_TIMEOUT = 120
_IMAGE = re.compile(r'<img src="data:image/([a-z+]+)[^,]*,([^"]*)"')
_ALT = re.compile('alt="([^"]*)"')
_MISSING = re.compile(r'the text `"(.*?)"` could not be displayed')
# What pandoc takes for given in the files that it writes.
_PRELUDE = "#let horizontalrule = line(length: 100%, stroke: 0.5pt + luma(200))\n\n"
# Width of the text on paper, in points.
_ROOM = 470
_RIGHT = '<{} style="text-align: right">'
# Sizes of letters in tables, in points.
_LETTERS, _SMALLEST = 8.4, 4.5
# It comes with Typst.
_LATIN = "Libertinus Serif"


def pdf(notebook, run, parameters, facts, figures, previous=None):
    """Set an executed notebook as PDF, without code.

    Parameters
    ----------
    notebook : dict
        The executed notebook, without records.
    run : Run
        What was executed.
    parameters : list of Parameter
        The parameters that the notebook declares.
    facts : dict
        What run.json says; what is missing in the PDF is added to its ``warnings``.
    figures : dict
        The recorded key figures.
    previous : dict, optional
        The report that this one replaces, as `crmlab.report.history.report` reads it.

    Returns
    -------
    bytes
        The PDF, of the standard PDF/A-2u where fonts have all characters.

    Raises
    ------
    ValueError
        If the extra is not installed, or the report cannot be set.
    """
    try:
        import pypandoc
        import typst
    except ImportError:
        raise ValueError(
            "PDF needs two packages that are not installed: pip install 'crmlab[pdf]', or take \"pdf\" out of formats."
        ) from None
    content = read_content(notebook, dataclasses.replace(run, code=False), parameters)
    known = changes(figures, facts, previous)
    fonts = typst.Fonts()
    families = [_LATIN, *filter(None, [_chinese(fonts.fonts())])]
    made = moment(facts["started"])
    about = [f"Data: {facts['reality']}"] if facts.get("reality") else []
    about += [f"Data as of {day(facts['data_as_of'])}"] if facts.get("data_as_of") else []
    started = datetime.datetime.fromisoformat(facts["started"])
    told = {
        "title": content.title or run.title,
        "meta": " · ".join([*about, made]),
        "day": {"year": started.year, "month": started.month, "day": started.day},
        "cards": [_card(figure, known.get(name)) for name, figure in figures.items()],
        "note": known.get("", ""),
        "warnings": [*facts["warnings"], *content.warnings],
        "provenance": provenance_rows(facts),
    }
    inputs = {"facts": json.dumps(_visible(told) | {"fonts": families})}
    with tempfile.TemporaryDirectory(prefix="crmlab-") as folder:
        folder = Path(folder)
        (folder / "report.typ").write_bytes(Path(__file__).with_name("report.typ").read_bytes())
        compiled = functools.partial(typst.compile, root=folder, font_paths=fonts)
        pandoc = functools.partial(_pandoc, pypandoc.get_pandoc_path())
        marks, words = _pictures(content, folder, compiled)

        def whole(marks):
            body = _described(pandoc(_for_paper(content.restored(marks))), words)
            (folder / "body.typ").write_text(_PRELUDE + body, encoding="utf-8")
            setting = functools.partial(compiled, folder / "report.typ", sys_inputs=inputs, timestamp=started)
            try:
                return setting(pdf_standards=["a-2u"])
            except typst.TypstError as error:
                if "PDF/A" not in error.message:
                    raise
                facts["warnings"].append(_in_words(error))
            return setting()

        try:
            return whole(marks)
        except typst.TypstError:
            marks = _with_plain_formulas(marks, compiled, pandoc, facts["warnings"])
        try:
            return whole(marks)
        except typst.TypstError as error:
            raise ValueError(f"The PDF could not be set: {error.message}") from None


def _in_words(error):
    """Say why a PDF is none of the standard for archives; data can only lack fonts."""
    missing = "".join(re.findall(_MISSING, f"{error.message}\n{error.diagnostic}"))
    missing = re.sub(r"\\u\{[0-9a-f]+\}", "", missing)
    if not missing:
        return f"PDF: {error.message}."
    return (
        f"PDF: no font of this machine has {' '.join(dict.fromkeys(missing))}, shown as boxes; on Debian or Ubuntu "
        "`apt-get install fonts-noto-cjk` (or fonts-wqy-microhei, small) has Chinese ones."
    )


def _pictures(content, folder, compiled):
    """Write the pictures to files; return what the marks stand for on paper, and what the pictures show."""
    marks, words = [], {}
    for mark in content.marks:
        name, words_of, rest = _picture(mark, f"{content.nonce}-{len(words)}", folder)
        if name and not _can_be_set(f'#image("{name}")', compiled):
            name, rest = None, html.escape(f"[{words_of}]")
        words |= {name: words_of} if name else {}
        marks.append(rest)
    return marks, words


def _with_plain_formulas(marks, compiled, pandoc, warnings):
    """Return the marks with the letters alone of formulas that pandoc writes in a way that Typst does not know."""
    numbers = [number for number, mark in enumerate(marks) if "<math" in mark]
    written = pandoc("<hr>".join(f"<p>{marks[number]}</p>" for number in numbers)).split("\n#horizontalrule\n")
    # Were they not as many, which is which would not be known, and all are plain.
    known = len(written) == len(numbers)
    marks = list(marks)
    for place, number in enumerate(numbers):
        if not known or not _can_be_set(written[place], compiled):
            plain = html.unescape(re.sub("<[^>]*>", "", marks[number]))
            warnings.append(f"PDF: the formula “{plain[:200]}” could not be set; its letters are shown.")
            marks[number] = f"<code>{html.escape(plain)}</code>"
    return marks


def _can_be_set(source, compiled):
    import typst

    try:
        compiled(source.encode())
    except typst.TypstError:
        return False
    return True


def _chinese(fonts):
    """Return the family of the finest font with Chinese characters, or None."""
    for name in CJK:
        found = [font for font in fonts if Path(font.path or "").name.lower().startswith(name.lower())]
        # A collection has a face for each country.
        found.sort(key=lambda font: (not font.family.endswith("SC"), "Mono" in font.family, font.family))
        if found:
            return found[0].family
    return None


def _card(figure, change):
    lines = [f"95% interval {figure['interval_text']}"] if figure["interval"] else []
    return {"label": figure["label"], "text": figure["text"], "lines": lines + [change] * bool(change)}


def _visible(value):
    if isinstance(value, dict):
        return {name: _visible(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_visible(item) for item in value]
    # Whole tags are left alone by it, and here is no markup.
    return visible(value) if isinstance(value, str) else value


def _picture(mark, name, folder):
    """Write a picture to a file of its own; return its name, what it shows and its markup (or that of a formula)."""
    found = _IMAGE.match(mark)
    if not found:
        return None, "", mark
    name = f"{name}.{found[1].partition('+')[0]}"
    (folder / name).write_bytes(base64.b64decode(found[2]))
    return name, html.unescape(_ALT.search(mark)[1]), f'<img src="{name}"{mark[found.end() :]}'


def _described(body, words):
    """Give pictures their words back, for which pandoc has no place; the names of the files cannot be guessed."""

    def described(match):
        text = re.sub(r'(["\\])', r"\\\1", " ".join(visible(words[match[1]]).split()))
        return f'image("{match[1]}", alt: "{text}"'

    names = "|".join(map(re.escape, words))
    return re.sub(f'image\\("({names})"', described, body) if words else body


def _for_paper(body):
    """Leave out what leads to a place in the page, and give wide tables smaller letters."""
    body = re.sub(r'<(h[2-6]) id="[^"]*"', r"<\1", body)
    body = re.sub(r'(<a [^>]*?)href="(?!https?://|mailto:)[^"]*"', r"\1", body)
    return re.sub(r"(?s)<table\b([^>]*>)(.*?)(</table>)", _fitted, body)


def _fitted(table):
    """Give a table the size of letters and the widths of columns at which no word is broken."""
    start, inner, end = table.groups()
    if 'class="dataframe"' in start:
        # As on the page.
        head, close, body = inner.partition("</thead>")
        inner = head.replace("<th>", _RIGHT.format("th")) + close + body.replace("<td>", _RIGHT.format("td"))
    least, most = {}, {}
    for row in re.split("<tr", inner):
        for column, cell in enumerate(re.findall(r"(?s)<t[hd]\b[^>]*>(.*?)</t[hd]>", row)):
            text = html.unescape(re.sub("<[^>]*>", "", cell))
            least[column] = max(least.get(column, 0), *map(_width, re.split(r"[\s_/-]+", text)))
            most[column] = max(most.get(column, 0), _width(text))
    size = min(_LETTERS, max(_SMALLEST, _ROOM / (sum(least.values()) or 1)))
    room = _ROOM / size
    if sum(most.values()) > room:
        # What is left when each column has room for its longest word goes to those that have more to say.
        share = max(0, room - sum(least.values())) / (sum(most.values()) - sum(least.values()) or 1)
        widths = [least[column] + share * (most[column] - least[column]) for column in sorted(least)]
        columns = "".join(f'<col style="width: {100 * width / sum(widths):.2f}%">' for width in widths)
        inner = re.sub(r"(?s)<colgroup.*?</colgroup>", "", inner)
        caption, inner = re.match(r"(?s)(\s*<caption.*?</caption>)?(.*)", inner).groups("")
        inner = f"{caption}<colgroup>{columns}</colgroup>{inner}"
    return f'<table typst:text:size="{size:.1f}pt"{start}{inner}{end}'


def _width(text):
    """Return about how wide a text of a cell is, in sizes of its letters, with the room between columns."""
    return 1.1 + sum(1 if letter > "\u2e7f" else 0.66 if letter.isupper() else 0.5 for letter in text)


def _pandoc(program, body):
    command = [program, "--from=html-auto_identifiers", "--to=typst", "--sandbox", "--wrap=none"]
    done = subprocess.run(command, input=body.encode(errors="replace"), capture_output=True, timeout=_TIMEOUT)
    if done.returncode:
        raise ValueError(f"The PDF could not be set: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()
