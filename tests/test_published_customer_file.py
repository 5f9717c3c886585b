"""Every number in data/published/customer_file.toml is computed here and must be reproduced within its tolerance."""

import importlib.util

import pytest

from crmlab import data
from crmlab.data import DataError


@pytest.fixture(scope="module")
def computed():
    return data.reproduce()


@pytest.mark.parametrize("target", data.published("customer_file").index)
def test_published_number_is_reproduced(target, computed):
    subject = target.split(".")[0]
    if target not in computed and not data.present(subject):
        pytest.skip(f"{subject} has not been downloaded; `crmlab data get {subject}` fetches it")
    if target.startswith("febrl3.model.") and not importlib.util.find_spec("splink"):
        pytest.skip("the extra `identity` is not installed")
    row = data.compare_published("customer_file", {target: computed[target]}).iloc[0]
    assert row["verdict"] == "reproduced", f"published {row['published']}, computed {row['computed']}: {row['source']}"


def test_every_computed_number_has_a_target(computed):
    assert set(computed) <= set(data.published("customer_file").index)


def test_what_is_our_own_is_not_called_published():
    table = data.published("customer_file")
    own = table["source"].str.startswith("crmlab")
    assert own[own].index.str.contains("rules|model|log|by_country|sums").all()
    assert (table.loc[own, "source"].str.endswith("not printed elsewhere")).all()


def test_a_subject_of_which_nothing_is_published_is_refused():
    with pytest.raises(DataError, match="Nothing is published of febrl; there are febrl3, online_retail"):
        data.reproduce(["febrl"])
