"""Passwords never reach a notebook, a page, a log or a message."""

import functools
import html
import itertools
import json
import os
import re
from urllib.parse import quote, unquote

# Split after the first letter, by which a long text is searched quickly.
_WORDS = r"[pPtTsS](?i:assword|asswd|wd|oken|ecret)[\w.-]*"
_WHOLE = re.compile(r"\A([A-Za-z][\w+.:-]*:/+[^\s:/?@]*):.*@")
# One slash is left of two where an address was taken for a path.
_ADDRESS = re.compile(r"(:/+[^\s:/?@\"'<>]*):[^\s\"'<>]*@")
_ORACLE = re.compile(r"(jdbc:oracle:\w+:[^\s/@\"'<>]*)/[^\s@\"'<>]*@")
_NAMED = re.compile(rf"({_WORDS}\s?=\s?)('[^'\n]*'|[^\s&;\"'<>)]+)")
_LISTED = re.compile(rf"({_WORDS}[\"']\s?:\s?([\"']))(?:(?!\2)[^\n])*")
# Letters that a secret must have to be hidden wherever it stands: a shorter one is part of many words.
LEAST = 6
# So much of a longer one is hidden, too.
_BEGINNING = 12
_VARIABLE = re.compile(
    r"(?i)passw(or)?d|(^|_)(token|secret|credential|(api|access|private|secret|auth)_?key)s?(_|$)|_pwd$"
)
_WRITERS = (
    quote,
    lambda word: quote(word, safe=""),
    lambda word: repr(word)[1:-1],
    lambda word: json.dumps(word)[1:-1],
    lambda word: json.dumps(word, ensure_ascii=False)[1:-1],
    html.escape,
)


def mask(value, known=()):
    """Hide the passwords of databases, wherever they are in a value.

    Hidden are those of addresses (``postgres://ann:…@host``, ``?password=…``, JDBC), of keywords
    (``user=ann password=…``) and of dictionaries (``{'password': '…'}``), and the known ones.

    Parameters
    ----------
    value : str, list, dict or any other plain value
        What is to be shown or stored.
    known : iterable of str
        Passwords of `passwords`, to be hidden wherever they stand.

    Returns
    -------
    object
        The same with ``***`` for each password.

    Examples
    --------
    >>> mask({"source": "postgres://ann:s3cret@host/shop"})
    {'source': 'postgres://ann:***@host/shop'}
    >>> mask("host=db user=ann password=s3cret")
    'host=db user=ann password=***'
    """
    if isinstance(value, dict):
        return {mask(key, known): mask(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask(item, known) for item in value]
    if not isinstance(value, str):
        return value
    # Up to the last @, because a password may hold one itself.
    text = _ADDRESS.sub(r"\1:***@", _WHOLE.sub(r"\1:***@", value))
    text = _ORACLE.sub(r"\1/***@", text)
    text = _LISTED.sub(r"\1***", _NAMED.sub(r"\1***", text))
    words = sorted(known, key=len, reverse=True)
    for word in words:
        text = text.replace(word, "***")
    for word in words:
        text = _without_beginnings(text, word)
    return text


def _without_beginnings(text, word):
    """Hide what is left of a secret where a table or a message was cut short; many paths begin alike."""
    beginning, parts, start = word[:_BEGINNING], [], 0
    while len(word) > _BEGINNING and "/" not in beginning and (found := text.find(beginning, start)) >= 0:
        parts += [text[start:found], "***"]
        pairs = zip(word, text[found : found + len(word)], strict=False)
        start = found + sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return "".join([*parts, text[start:]])


def passwords(value, least=LEAST):
    """Return the passwords in a value, in the forms in which they may come up again.

    Parameters
    ----------
    value : str, list, dict or any other plain value
        Parameters of a notebook, or the address of a database.
    least : int, default 6
        Letters that a password must have: a shorter one is part of many words.

    Returns
    -------
    set of str
        As written, decoded, and as addresses, Python, JSON and HTML write them.

    Examples
    --------
    >>> {"s3cret%21", "s3cret!"} <= passwords("postgres://ann:s3cret%21@host/shop")
    True
    """
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return set().union(*(passwords(item, least) for item in value))
    if not isinstance(value, str):
        return set()
    found = re.findall(r"://[^:/?@]*:(.*)@", value) + re.findall(r"jdbc:oracle:\w+:[^/@]*/([^@]*)@", value)
    found += [cell.strip("'\"") for _name, cell in _NAMED.findall(value)]
    return spellings([form for word in found for form in (word, unquote(word))], least)


def spellings(secrets, least=LEAST):
    """Return the forms in which secrets may come up: as addresses, Python, JSON and HTML write them, and line by line.

    Parameters
    ----------
    secrets : iterable of str
        What is not to be shown.
    least : int, default 6
        Letters that a form must have.

    Returns
    -------
    set of str
        What `mask` takes as known.

    Examples
    --------
    >>> {"fish & chips", "fish%20%26%20chips", "fish &amp; chips"} <= spellings(["fish & chips"])
    True
    """
    forms = {form for secret in secrets for form in (secret, secret.strip(), *secret.splitlines())}
    for _twice in range(2):
        forms |= {write(form) for form in forms for write in _WRITERS}
    return {form for form in forms if len(form) >= least}


def environment_secrets():
    """Return what this process's environment holds that a notebook must not show, such as the value of API_TOKEN.

    Returns
    -------
    frozenset of str
        Values of variables that are called a password, a token, a secret or a key, and passwords in all others.
    """
    return _secrets_of(tuple(os.environ.items()))


@functools.lru_cache(1)
def _secrets_of(variables):
    named = [value for name, value in variables if _VARIABLE.search(name)]
    return frozenset(spellings(named) | passwords([value for _, value in variables]))
