"""Every number in data/published/lifecycle.toml is computed here and must be reproduced within its tolerance."""

import pytest

from crmlab import data
from tests import (
    test_lifecycle_churn,
    test_lifecycle_cohorts,
    test_lifecycle_concentration,
    test_lifecycle_durations,
    test_lifecycle_hazards,
)

# Each has a function published_numbers(): target to computed number.
ROOMS = (
    test_lifecycle_churn,
    test_lifecycle_cohorts,
    test_lifecycle_concentration,
    test_lifecycle_durations,
    test_lifecycle_hazards,
)


@pytest.fixture(scope="module")
def computed():
    return {name: number for room in ROOMS for name, number in room.published_numbers().items()}


@pytest.mark.parametrize("target", data.published("lifecycle").index)
def test_published_number_is_reproduced(target, computed):
    if target.startswith("rossi.") and target not in computed:
        pytest.skip("needs rossi.csv (of the Python package lifelines) in CRMLAB_DATA_DIR")
    if target.startswith("online_retail_two_years.") and target not in computed:
        pytest.skip("online_retail and online_retail_ii have not been downloaded; `crmlab data get` fetches them")
    row = data.compare_published("lifecycle", {target: computed[target]}).iloc[0]
    assert row["verdict"] == "reproduced", f"published {row['published']}, computed {row['computed']}: {row['source']}"


def test_every_computed_number_has_a_target(computed):
    assert set(computed) <= set(data.published("lifecycle").index)
