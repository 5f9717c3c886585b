"""Every number in data/published/loyalty.toml is computed here and must be reproduced within its tolerance."""

import pytest

from crmlab import data, loyalty


@pytest.fixture(scope="module")
def computed():
    return loyalty.reproduce()


@pytest.mark.parametrize("target", data.published("loyalty").index)
def test_published_number_is_reproduced(target, computed):
    subject = target.split(".")[0]
    if target not in computed and not data.present(subject):
        pytest.skip(f"{subject} is not on this machine; `crmlab data get {subject}` fetches it or says how")
    row = data.compare_published("loyalty", {target: computed[target]}).iloc[0]
    assert row["verdict"] == "reproduced", f"published {row['published']}, computed {row['computed']}: {row['source']}"


def test_every_computed_number_has_a_target(computed):
    assert set(computed) <= set(data.published("loyalty").index)
