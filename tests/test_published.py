"""Every number in data/published is computed here and must be reproduced within its tolerance."""

import pytest

from crmlab import clv, data
from crmlab.data import DataError


@pytest.fixture(scope="module")
def computed():
    return clv.reproduce()


@pytest.mark.parametrize("target", data.published("clv").index)
def test_published_number_is_reproduced(target, computed):
    if target.startswith("apparel.") and target not in computed:
        pytest.skip("needs apparelTrans.rda and apparelStaticCov.rda of the R package CLVTools in CRMLAB_DATA_DIR")
    row = data.compare_published("clv", {target: computed[target]}).iloc[0]
    assert row["verdict"] == "reproduced", f"published {row['published']}, computed {row['computed']}: {row['source']}"


def test_nothing_is_computed_that_was_not_published(computed):
    assert set(computed) <= set(data.published("clv").index)


def test_every_target_says_what_it_is_and_where_it_was_printed():
    table = data.published("clv")
    assert (table["what"].str.len() > 10).all()
    assert (table["source"].str.len() > 10).all()


def test_a_number_off_by_more_than_its_tolerance_differs():
    table = data.compare_published("clv", {"cdnow_sample.bgnbd.r": 0.2436})
    assert table["verdict"].item() == "differs"


def test_unknown_rooms_and_targets_are_refused():
    with pytest.raises(DataError, match=r"nothing\.toml does not exist"):
        data.published("nothing")
    with pytest.raises(DataError, match="no target named x"):
        data.compare_published("clv", {"x": 1})
