"""Passwords never reach a notebook, a page, a log or a message."""

import re


def mask(text):
    """Hide the passwords of database addresses, wherever they are in a text.

    Parameters
    ----------
    text : str
        What is to be shown or stored.

    Returns
    -------
    str
        The same with ``***`` for each password.

    Examples
    --------
    >>> mask("postgres://ann:s3cret@host/shop")
    'postgres://ann:***@host/shop'
    """
    # Up to the last @, because a password may hold one itself.
    text = re.sub(r"(://[^\s:/?@\"'<>]*):[^\s\"'<>]*@", r"\1:***@", text)
    return re.sub(
        r"([?&;][^=&;\s]*(?:password|passwd|pwd|token|secret)[^=&;\s]*=)[^&;\s\"'<>]+",
        r"\1***",
        text,
        flags=re.IGNORECASE,
    )
