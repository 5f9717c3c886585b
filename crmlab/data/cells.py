"""Text cells into dates and numbers: one way of reading is chosen for a whole column, never cell by cell.

Expressions of DuckDB: text that has to be parsed lives in the embedded engine.
"""

import functools

import ibis
import ibis.expr.datatypes as dt

from crmlab.data.engine import connect
from crmlab.data.errors import DataError

MISSING = ("NA", "N/A", "NaN", "NaT", "NULL", "None", "#N/A", "<NA>", "-")
DATE_FORMATS = {
    "%Y-%m-%d": r"[1-9]\d{3}-\d{1,2}-\d{1,2}",
    "%Y/%m/%d": r"[1-9]\d{3}/\d{1,2}/\d{1,2}",
    "%Y.%m.%d": r"[1-9]\d{3}\.\d{1,2}\.\d{1,2}",
    "%Y%m%d": r"[1-9]\d{7}",
    "%d/%m/%Y": r"\d{1,2}/\d{1,2}/[1-9]\d{3}",
    "%m/%d/%Y": r"\d{1,2}/\d{1,2}/[1-9]\d{3}",
    "%d.%m.%Y": r"\d{1,2}\.\d{1,2}\.[1-9]\d{3}",
    "%d-%m-%Y": r"\d{1,2}-\d{1,2}-[1-9]\d{3}",
    "%m-%d-%Y": r"\d{1,2}-\d{1,2}-[1-9]\d{3}",
    "%d %b %Y": r"\d{1,2} [A-Za-z]{3} [1-9]\d{3}",
    "%d-%b-%Y": r"\d{1,2}-[A-Za-z]{3}-[1-9]\d{3}",
    "%d %B %Y": r"\d{1,2} [A-Za-z]{3,9} [1-9]\d{3}",
    "%Y年%m月%d日": r"[1-9]\d{3}年\d{1,2}月\d{1,2}日",
}
# Spellings that nobody reads otherwise: no second format has the same shape.
SURE = [form for form, shape in DATE_FORMATS.items() if list(DATE_FORMATS.values()).count(shape) == 1]
OFFSET = r"(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)"
SAMPLE = 20_000
_BLANK = r"[\s\pZ\x{feff}]*"
_MISSING = f"(?i){_BLANK}(?:{'|'.join(MISSING)})?{_BLANK}"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
_TIMED = rf"(?i)(DATE)(?:(?:T|\s*)({_TIME})(?:\s*([AP])\.?M\.?)?\s*{OFFSET}?)?"
_DIGITS = r"[+-]?\d{1,300}"
_PLAIN = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CODES = "USD EUR GBP CNY RMB JPY CHF SEK NOK DKK CAD AUD NZD HKD TWD SGD KRW INR BRL MXN PLN CZK HUF RUB TRY ZAR"
_SIGN = rf"(?:[A-Z]{{0,2}}\p{{Sc}}|{_CODES.replace(' ', '|')}|人民币|元|圆|円|kr\.?|Kr\.?|zł|Kč)"
_SAME_CURRENCY = {
    "CNY": ("¥", "元", "圆", "人民币", "RMB"),
    "USD": ("$", "US$"),
    "EUR": ("€",),
    "GBP": ("£",),
    "JPY": ("円",),
    "kr": ("kr.", "Kr", "Kr."),
}


@ibis.udf.scalar.builtin
def regexp_full_match(text: str, pattern: str) -> bool:
    """Tell whether the whole text matches; without groups this is far cheaper than extracting."""


@ibis.udf.scalar.builtin
def try_strptime(text: str, formats: dt.Array(dt.string)) -> dt.Timestamp(scale=6):
    """Parse by the first format that fits, null when none does."""


@ibis.udf.scalar.builtin
def make_timestamp(microseconds: dt.int64) -> dt.Timestamp(scale=6):
    """Point in time from microseconds since 1970."""


def blank_to_null(text):
    """Return the text with empty cells and the words for missing (`MISSING`) as null.

    Parameters
    ----------
    text : ibis.expr.types.StringValue
        A column of text.

    Returns
    -------
    ibis.expr.types.StringValue
        The same text or null.
    """
    return ibis.ifelse(regexp_full_match(text, _MISSING), ibis.null("string"), text)


def clean(text):
    r"""Return the text trimmed, with full-width characters, odd minus signs and odd spaces made plain.

    Parameters
    ----------
    text : ibis.expr.types.StringValue
        A column of text.

    Returns
    -------
    ibis.expr.types.StringValue
        Text that the patterns of this module understand.
    """
    odd = "０１２３４５６７８９．，：／＋－−–（）￥＄￡’\u00a0\u202f\u2009\u3000\ufeff"
    plain = "0123456789.,:/+---()¥$£'     "
    # Translating is the slowest step of all, and cells of plain signs are spared it.
    return ibis.ifelse(regexp_full_match(text, "[!-~](?:[ -~]*[!-~])?"), text, text.translate(odd, plain).strip())


def _whole(form):
    return _TIMED.replace("DATE", DATE_FORMATS[form])


def _timestamp(text, form):
    """Text of one date format, with or without a time, as local wall time; null when it is anything else."""
    shape = DATE_FORMATS[form]
    if form == "%Y-%m-%d":
        iso = r"[1-9]\d{3}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?"
        fast = [(regexp_full_match(text, iso), text.try_cast("timestamp(6)"))]
    else:
        fast = [
            (regexp_full_match(text, shape + time), try_strptime(text, [form + directives]))
            for time, directives in (("", ""), (r" \d{1,2}:\d{2}", " %H:%M"))
        ]
    # The rest (seconds, fractions, AM/PM, offsets, full-width digits) is taken apart; slow, and right.
    tidy, whole = clean(text), _whole(form)
    pattern = f"^{whole}$"
    day = try_strptime(tidy.re_extract(pattern, 1), [form])
    time = day.strftime("%Y-%m-%d ") + tidy.re_extract(pattern, 2).replace(",", ".")
    half = tidy.re_extract(pattern, 3).upper()
    slow = ibis.cases(
        (tidy.re_extract(pattern, 2) == "", day),
        (half == "", time.try_cast("timestamp(6)")),
        else_=try_strptime(time + " " + half + "M", ["%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p"]),
    )
    return ibis.cases(*fast, (regexp_full_match(tidy, whole), slow))


def _serial(text, form):
    """Day numbers of a spreadsheet or seconds since 1970 as a point in time."""
    number = text.try_cast("float64")
    days, low, high = (number - 25569, 1, 2_958_466) if form == "excel" else (number / 86400, -62e9, 253e9)
    # Spreadsheets store 10:00 as .41666…: whole milliseconds take the noise away.
    milliseconds = (days * 86_400_000).round().cast("int64")
    return ibis.ifelse(number.between(low, high), make_timestamp(milliseconds * 1000), ibis.null("timestamp(6)"))


def date_reader(cells, column, date_format=None, sample=True, mixed=False):
    """Choose the way of reading a whole column of dates.

    Parameters
    ----------
    cells : ibis.Table
        A table whose text column `x` has the cells, null where empty.
    column : str
        Name of the column, for messages.
    date_format : str, optional
        A format of `strptime`, ``"excel"`` or ``"epoch"``; without it the format is found.
    sample : bool, default True
        Let the first rows decide when they can.
    mixed : bool, default False
        Read beside the column's main spelling every other one that can be read one way only, as long as the main one
        is of that kind too; 03/04/1980 among such is not read.

    Returns
    -------
    callable
        From text to timestamps, null where a cell does not parse.

    Raises
    ------
    DataError
        Day and month could be either way round, or the cells are numbers.
    """
    if date_format is not None:
        return _given_format(date_format)
    looked_at = cells.limit(SAMPLE) if sample else cells
    shapes = {form: regexp_full_match(clean(looked_at.x), _whole(form)).any() for form in DATE_FORMATS}
    found = looked_at.aggregate(**shapes).to_pyarrow().to_pylist()[0]
    readers = {form: functools.partial(_timestamp, form=form) for form in DATE_FORMATS if found[form]}
    best, differs = _choose(cells, readers, sample) if readers else ([], None)
    if differs is not None:
        raise DataError(
            f"Column {column!r}: {differs!r} can be {' or '.join(_words(form) for form in best)}, and the other cells "
            f'do not decide it. Say which: load(…, date_format="{best[0]}") or load(…, date_format="{best[1]}").'
        )
    if not best:
        _refuse_serials(cells, column)
        best = ["%Y-%m-%d"]
    forms = best[:1]
    if mixed and best[0] in SURE:
        forms += [form for form in SURE if found[form] and form != best[0]]
    return lambda text: ibis.coalesce(*(_timestamp(text, form) for form in forms))


def _words(form):
    for code, word in (("%Y", "year"), ("%m", "month"), ("%d", "day")):
        form = form.replace(code, word)
    return form


def _given_format(date_format):
    if date_format in ("excel", "epoch"):
        return functools.partial(_serial, form=date_format)
    if date_format in DATE_FORMATS:
        return functools.partial(_timestamp, form=date_format)
    try:
        connect().execute(try_strptime(ibis.literal("2024-01-31"), [str(date_format)]))
    except Exception as error:
        raise DataError(
            f'date_format={date_format!r} is not a date format; write it like "%d/%m/%Y", "excel" or "epoch".'
        ) from error
    return lambda text: try_strptime(text.strip(), [date_format])


def _refuse_serials(cells, column):
    """Numbers in a date column have several meanings: say which, never guess."""
    kinds = {
        "excel": (r"[1-9]\d{4}(?:\.\d+)?", 'day numbers of a spreadsheet: load(…, date_format="excel")'),
        "epoch": (r"\d{9,10}(?:\.\d+)?", 'seconds since 1970: load(…, date_format="epoch")'),
        "milliseconds": (r"\d{12,13}", "milliseconds since 1970: divide the column by 1000 and read it as epoch"),
    }
    found = cells.aggregate(
        n=cells.x.count(), **{kind: regexp_full_match(cells.x, shape).sum() for kind, (shape, _) in kinds.items()}
    )
    counts = found.to_pyarrow().to_pylist()[0]
    for kind, (_, advice) in kinds.items():
        if counts["n"] and (counts[kind] or 0) > counts["n"] / 2:
            example = cells.filter(regexp_full_match(cells.x, kinds[kind][0])).x.min().to_pyarrow().as_py()
            raise DataError(
                f"Column {column!r} has numbers such as {example!r} where dates are needed; they look like {advice}."
            )


def _choose(cells, readers, sample=True):
    """Names of the readers that read the most cells; of two that read a cell differently, both names and the cell."""
    names = list(readers)

    def count(table):
        found = table.aggregate(
            n=table.x.count(), **{f"r{i}": readers[name](table.x).count() for i, name in enumerate(names)}
        )
        row = found.to_pyarrow().to_pylist()[0]
        return row["n"], {name: row[f"r{i}"] for i, name in enumerate(names)}

    if sample:
        n, read = count(cells.limit(SAMPLE))
        perfect = [name for name in names if read[name] == n]
        # One reader that reads every cell of the sample: the caller sees whether it reads the rest.
        if n and len(perfect) == 1:
            return perfect, None
    _, read = count(cells)
    most = max(read.values())
    best = [name for name in names if read[name] == most] if most else []
    for other in best[1:]:
        # Only a cell that both can read, and read differently, makes the column ambiguous.
        one, two = readers[best[0]](cells.x), readers[other](cells.x)
        cell = cells.filter(one != two).x.min().to_pyarrow().as_py()
        if cell is not None:
            return [best[0], other], cell
    return best, None


def _number_shape(decimal):
    group, point = (",", r"\.") if decimal == "." else (r"\.", ",")
    whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{group}\d{{3}})+|[1-9]\d{{0,2}}(?:[ ']\d{{3}})+)"
    number, sign = rf"(?:{whole}(?:{point}\d*)?|{point}\d+)", rf"(?:{_SIGN} *){{0,2}}"
    after = rf"(?: *{_SIGN})?"
    return "|".join(
        [
            rf"[+-]? *{sign}{number}{after}",
            rf"{sign}[+-] *{number}{after}",
            rf"{sign}{number}{after} *-",
            rf"{sign}\( *{sign}{number}{after} *\){after}",
        ]
    )


def _currency(text):
    code = text.re_extract(f"({_CODES.replace(' ', '|')})", 1)
    sign = ibis.ifelse(code == "", text.re_extract(f"({_SIGN})", 1), code)
    return sign.cases(*((other, name) for name, others in _SAME_CURRENCY.items() for other in others), else_=sign)


def _number(text, decimal, currency):
    tidy = clean(text)
    digits = tidy.re_replace(_SIGN, "").re_replace(r"[^0-9.]" if decimal == "." else r"[^0-9,]", "").replace(",", ".")
    size = digits.try_cast("float64")
    negative = tidy.contains("-") | tidy.contains("(")
    fits = regexp_full_match(tidy, _number_shape(decimal)) & _currency(tidy).isin(["", currency])
    slow = (fits, ibis.ifelse(negative, -size, size))
    plain = r"[+-]?\d+" if decimal == "," else _PLAIN
    value = ibis.cases((regexp_full_match(text, plain), text.try_cast("float64")), slow)
    # Four hundred digits are no amount: a float calls them infinite.
    return ibis.ifelse(value.abs() < 1e300, value, ibis.null("float64"))


def number_reader(cells, column, decimal=None, sample=True):
    """Choose the one way of reading a whole column of numbers: the decimal sign and the currency.

    Parameters
    ----------
    cells : ibis.Table
        A table whose text column `x` has the cells, null where empty.
    column : str
        Name of the column, for messages.
    decimal : {".", ","}, optional
        The decimal sign; without it, it is found.
    sample : bool, default True
        Let the first rows decide when they can.

    Returns
    -------
    callable
        From text to numbers, null where a cell does not parse.

    Raises
    ------
    DataError
        The decimal sign could be either one.
    """
    if decimal not in (None, ".", ","):
        raise DataError(f'decimal={decimal!r} is not a decimal sign: write decimal="." or decimal=",".')
    looked_at = cells.limit(SAMPLE) if sample else cells
    # Digits alone mean the same either way; a later cell that has more than digits makes all rows decide.
    if sample and regexp_full_match(looked_at.x, _DIGITS).all().to_pyarrow().as_py():
        return lambda text: ibis.ifelse(
            regexp_full_match(text, _DIGITS), text.try_cast("float64"), ibis.null("float64")
        )
    signs = looked_at.filter(~regexp_full_match(looked_at.x, _PLAIN))
    signs = signs.select(sign=_currency(clean(signs.x)))
    counts = signs.filter(signs.sign != "").group_by("sign").aggregate(n=lambda t: t.count())
    most = counts.order_by(ibis.desc("n"), "sign").limit(1).to_pyarrow().to_pylist()
    currency = most[0]["sign"] if most else ""
    readers = {sign: functools.partial(_number, decimal=sign, currency=currency) for sign in (".", ",")}
    if decimal is None:
        best, differs = _choose(cells, readers, sample)
        if differs is not None:
            raise DataError(
                f"Column {column!r}: {differs!r} can be a number with thousands or with decimals, and the other cells "
                'do not decide it. Say which sign starts the decimals: load(…, decimal=".") or load(…, decimal=",").'
            )
        decimal = best[0] if best else "."
    return readers[decimal]
