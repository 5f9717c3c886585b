"""What the case study of the book company says, in its own words."""

import tomllib

from crmlab.data.files import own_file


def case_facts():
    """Return every fact of the case of 龍之脊圖書有限公司 (Longzhiji Books) with the words that state it.

    The case is illustrative: one essay tells it, no other source is known, and it prints no amounts but the registered
    capital. What a simulator adds to it is assumed.

    Returns
    -------
    pandas.DataFrame
        `fact` (in English), `quotation` (Chinese, exact), `section` (of the essay), in the order of the text.

    Examples
    --------
    >>> case_facts().loc[0, ["fact", "quotation"]].tolist()
    ['founded in 1995', '龍之脊圖書有限公司始建於一九九五年']
    """
    import pandas as pd

    return pd.DataFrame(tomllib.loads(own_file("longzhiji.toml").read_text(encoding="utf-8"))["fact"])
