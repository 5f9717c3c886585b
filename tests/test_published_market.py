"""Every number in data/published/market.toml is computed here and must be reproduced within its tolerance."""

import pytest

from crmlab import data, market
from crmlab.data import DataError


@pytest.fixture(scope="module")
def computed():
    return market.reproduce()


@pytest.mark.parametrize("target", data.published("market").index)
def test_published_number_is_reproduced(target, computed):
    subject = target.split(".")[0]
    if target not in computed and subject != "loop" and not data.present(subject):
        pytest.skip(f"{subject} has not been downloaded; `crmlab data get {subject}` fetches it")
    row = data.compare_published("market", {target: computed[target]}).iloc[0]
    assert row["verdict"] == "reproduced", f"published {row['published']}, computed {row['computed']}: {row['source']}"


def test_every_computed_number_has_a_target(computed):
    assert set(computed) <= set(data.published("market").index)


def test_a_subject_of_which_nothing_is_published_is_refused():
    with pytest.raises(DataError, match=r"Nothing is published of grocerys; there are .*groceries"):
        market.reproduce(["grocerys"])
