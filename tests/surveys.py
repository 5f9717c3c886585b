"""Surveys for the tests of the room on loyalty: a well-behaved one, and real ones that may be absent."""

import numpy as np
import pandas as pd
import pytest

from crmlab import data


def survey(n=400, seed=1):
    """Answers from 1 to 10 to five questions that go together, and the loyalty that follows from them."""
    rng = np.random.default_rng(seed)
    mood = rng.normal(size=n)
    items = {f"q{k}": 6.5 + 1.2 * mood + 1.5 * rng.normal(size=n) for k in range(1, 6)}
    items["loyal"] = 6 + 1.5 * mood + 1.5 * rng.normal(size=n)
    return pd.DataFrame(items).round().clip(1, 10)


def acsi(industry=None):
    """ACSI 2015, as delivered but for the missing codes of the two answers on a scale."""
    if not data.present("acsi_2015"):
        pytest.skip("acsi_2015 has not been downloaded; `crmlab data get acsi_2015` fetches it")
    table = data.load("acsi_2015").to_pandas()
    table["industry"] = table["INDUSTRY"].map({1001: "food", 3003: "airline", 3013: "internet", 5001: "bank"})
    for item in ("SATIS", "REPUR"):
        table[item] = table[item].astype(float).replace({98: np.nan, 99: np.nan})
    return table if industry is None else table[table["industry"] == industry].reset_index(drop=True)


def fetched(name):
    """A set of the catalogue that may not be on this machine."""
    if not data.present(name):
        pytest.skip(f"{name} is not in the data folder")
    return data.load(name).to_pandas()
