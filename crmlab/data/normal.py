"""One way to write names, addresses, telephones, e-mail addresses and dates, so that equals look equal."""

import datetime
import re
import unicodedata

# Letters that Unicode does not decompose.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
# Characters common in names whose traditional and simplified forms differ.
_TRADITIONAL = (
    "張陳劉楊趙黃吳孫馬鄭謝許鄧馮葉蘇盧蔣賈韋閻陸鄒譚萬錢湯羅龍賀龔顧邵嚴東偉麗靜強軍傑濤艷華國蘭紅鳳曉剛潔瑩寧輝燕學業廣義興"
    "慶貴賢鋒飛慧穎倫澤號區縣鄉鎮門樓衛陽雲蓮愛親歡樂夢順長"
)
_SIMPLIFIED = (
    "张陈刘杨赵黄吴孙马郑谢许邓冯叶苏卢蒋贾韦阎陆邹谭万钱汤罗龙贺龚顾邵严东伟丽静强军杰涛艳华国兰红凤晓刚洁莹宁辉燕学业广义兴"
    "庆贵贤锋飞慧颖伦泽号区县乡镇门楼卫阳云莲爱亲欢乐梦顺长"
)
_CHARACTERS = str.maketrans(_TRADITIONAL, _SIMPLIFIED)
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f"
_TITLES = {"mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "mme", "mlle", "sir"}
_HONORIFICS = r"(?:先生|女士|小姐|太太|老师|教授|经理)+$"
_STREETS = {
    "street": "st", "road": "rd", "avenue": "ave", "place": "pl", "drive": "dr", "court": "ct", "crescent": "cres",
    "close": "cl", "terrace": "tce", "circuit": "cct", "strasse": "str", "platz": "pl",
}  # fmt: skip
_DATES = (
    (r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", "ymd"),
    (r"(\d{4})(\d\d)(\d\d)", "ymd"),
    (r"(\d{4})年(\d{1,2})月(\d{1,2})日?", "ymd"),
    (r"(\d{1,2})\.(\d{1,2})\.(\d{4})", "dmy"),
)


def _fold(text):
    """Without differences of width and case."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normal_text(value):
    """Return a text without differences of width, case, accents, punctuation and spaces.

    Parameters
    ----------
    value : str
        Any text.

    Returns
    -------
    str or None
        None when nothing is left.

    Examples
    --------
    >>> normal_text("  Ｏ'Brien–Müller "), normal_text("陳　偉")
    ('o brien muller', '陈伟')
    """
    text = _fold(value)
    if text.isascii():
        return re.sub(r"[\W_]+", " ", text).strip() or None
    text = text.translate(_LETTERS).translate(_CHARACTERS)
    # Accents of Latin, Greek and Cyrillic only: in other scripts such marks are letters.
    text = re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFD", text))
    text = re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", text)).strip()
    # Chinese has no spaces.
    return re.sub(rf"(?<=[{_HAN}]) (?=[{_HAN}])", "", text) or None


def normal_name(value):
    """Return a person's name with its parts in a fixed order, without titles.

    Parameters
    ----------
    value : str
        A name in Latin letters ("MÜLLER, Anna", "Dr. Anna Müller") or Chinese characters ("陳 偉先生").

    Returns
    -------
    str or None
        None when nothing is left.

    Examples
    --------
    >>> normal_name("MÜLLER, Anna") == normal_name("Dr. Anna Müller")
    True
    >>> normal_name("陳 偉先生")
    '陈伟'
    """
    text = normal_text(value)
    if text is None:
        return None
    parts = [part for part in text.split() if part not in _TITLES]
    if re.search(f"[{_HAN}]", text):
        return re.sub(_HONORIFICS, "", "".join(parts)) or None
    return " ".join(sorted(parts)) or None


def normal_address(value):
    """Return an address with common words abbreviated, without spaces.

    Parameters
    ----------
    value : str
        Street and number, or any part of an address.

    Returns
    -------
    str or None
        None when nothing is left.

    Examples
    --------
    >>> normal_address("Bahnhofstraße 7") == normal_address("BAHNHOFSTR. 7")
    True
    >>> normal_address("12 Wallaby Place") == normal_address("12 wallaby pl.")
    True
    """
    text = normal_text(value)
    if text is None:
        return None
    words = (_STREETS.get(word, re.sub(r"(?<=\w)strasse$", "str", word)) for word in text.split())
    return "".join(words)


def normal_phone(value):
    """Return the digits of a telephone number, an international prefix as ``+``.

    A national number keeps its leading zero: without its country nobody knows what it means elsewhere.

    Parameters
    ----------
    value : str
        A telephone number, written in any way.

    Returns
    -------
    str or None
        None with fewer than five digits.

    Examples
    --------
    >>> normal_phone("００８６ 138-0013-8000"), normal_phone("(+49) (0)151 234 567 ext. 12")
    ('+8613800138000', '+49151234567')
    """
    text = _fold(value)
    text = re.split(r"ext|转|轉|x", text)[0]
    international = re.match(r"[\s(]*(\+|00)", text)
    # The trunk zero in brackets is not dialled from abroad.
    digits = re.sub(r"[^0-9]", "", re.sub(r"\(0\)", "", text) if international else text)
    if international and international[1] == "00":
        digits = digits[2:]
    if len(digits) < 5:
        return None
    return f"+{digits}" if international else digits


def normal_email(value):
    """Return an e-mail address in small letters.

    Parameters
    ----------
    value : str
        An e-mail address.

    Returns
    -------
    str or None
        None for what is no address.

    Examples
    --------
    >>> normal_email(" Anna@Example.COM"), normal_email("unknown")
    ('anna@example.com', None)
    """
    text = re.sub(r"\s+", "", _fold(value)).removeprefix("mailto:")
    return text if re.fullmatch(r"[^@]+@[^@]+\.[^@.]+", text) else None


def normal_date(value):
    """Return a day as ``YYYY-MM-DD``.

    Parameters
    ----------
    value : str
        A date with the year first, in digits or Chinese, or German with dots. Dates such as ``03/04/1980`` can be read
        two ways and are not guessed.

    Returns
    -------
    str or None
        None for what is no day of the calendar, or not surely one.

    Examples
    --------
    >>> normal_date("1980年4月3日"), normal_date("03.04.1980"), normal_date("19800403"), normal_date("03/04/1980")
    ('1980-04-03', '1980-04-03', '1980-04-03', None)
    """
    text = re.sub(r"[T ]\d\d:\d\d.*$", "", unicodedata.normalize("NFKC", value))
    text = re.sub(r"\s+", "", text)
    for shape, order in _DATES:
        if found := re.fullmatch(shape, text):
            year, month, day = found.groups() if order == "ymd" else found.groups()[::-1]
            try:
                return datetime.date(int(year), int(month), int(day)).isoformat()
            except ValueError:
                return None
    return None


KINDS = {
    "text": normal_text,
    "name": normal_name,
    "address": normal_address,
    "phone": normal_phone,
    "email": normal_email,
    "date": normal_date,
}
