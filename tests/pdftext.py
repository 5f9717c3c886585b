"""The text of a PDF as Typst writes it, found as a reader's "copy" finds it: by the fonts' maps to Unicode."""

import re
import zlib


def pdf_text(content):
    """Return the text of each page, without spaces that only places make."""
    parts = {int(n): body for n, body in re.findall(rb"(?s)(\d+) 0 obj\n(.*?)\nendobj", content)}

    def stream(number):
        data = parts[number].partition(b"stream\n")[2].rpartition(b"\nendstream")[0]
        return zlib.decompress(data) if b"/FlateDecode" in parts[number] else data

    def reference(part, name):
        found = re.search(rb"/%s (\d+) 0 R" % name, part)
        return int(found[1])

    maps = {}
    for number, part in parts.items():
        if b"/Type/Font/" in part and b"/ToUnicode" in part:
            pairs = re.findall(rb"<([0-9A-F]{4})> <([0-9A-F]+)>", stream(reference(part, b"ToUnicode")))
            maps[number] = {int(code, 16): bytes.fromhex(text.decode()).decode("utf-16-be") for code, text in pairs}
    pages = []
    for part in parts.values():
        if re.search(rb"/Type/Page[/>]", part):
            fonts = dict(re.findall(rb"/(f\d+) (\d+) 0 R", parts[reference(part, b"Resources")]))
            pages.append(_shown(stream(reference(part, b"Contents")), {f: maps[int(n)] for f, n in fonts.items()}))
    return pages


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def _shown(content, fonts):
    text, font = [], {}
    operators = rb"(?s)/(f\d+) [\d.]+ Tf|\(((?:[^\\)]|\\.)*)\)|<([0-9A-F]+)>(?= ?T|\)|\]|-|\d)|(ET)"
    for name, literal, digits, end in re.findall(operators, content):
        if name:
            font = fonts[name]
        elif end:
            text.append("\n")
        else:
            codes = bytes.fromhex(digits.decode()) if digits else _plain(literal)
            text += [font.get(int.from_bytes(codes[i : i + 2]), "") for i in range(0, len(codes), 2)]
    return "".join(text)


def _plain(literal):
    def one(match):
        return bytes([int(match[1], 8)]) if match[1][:1].isdigit() else _ESCAPES.get(match[1], match[1])

    return re.sub(rb"(?s)\\([0-7]{1,3}|.)", one, literal)
