"""Every number in data/published is computed here and must be reproduced within its tolerance."""

import importlib.util
from pathlib import Path

import pytest

from crmlab import cases, clv, data, lifecycle, loyalty, market
from crmlab.data import DataError

FOLDER = Path(__file__).parents[1] / "data" / "published"


@pytest.fixture(scope="class")
def computed(request):
    return request.cls.reproduce()


class Published:
    """What is promised of one file; a class for each, so that they run side by side."""

    def test_number_is_reproduced(self, target, computed):
        if target not in computed and (reason := self.not_here(target)):
            pytest.skip(reason)
        row = data.compare_published(self.room, {target: computed[target]}).iloc[0]
        assert row["verdict"] == "reproduced", f"{row['published']}, computed {row['computed']}: {row['source']}"

    def test_nothing_is_computed_that_was_not_published(self, computed):
        assert set(computed) <= set(data.published(self.room).index)

    def test_every_target_says_what_it_is_and_where_it_was_printed(self):
        table = data.published(self.room)
        assert (table["what"].str.len() > 10).all()
        assert (table["source"].str.len() > 10).all()

    def not_here(self, target):
        subject = target.split(".")[0]
        if subject in data.names() and not data.present(subject):
            return f"{subject} is not on this machine; `crmlab data get {subject}` fetches it or says how"
        return None


class TestCases(Published):
    room, reproduce = "cases", staticmethod(cases.reproduce)


class TestClv(Published):
    room, reproduce = "clv", staticmethod(clv.reproduce)

    def not_here(self, target):
        if target.startswith("apparel."):
            return "needs apparelTrans.rda and apparelStaticCov.rda of the R package CLVTools in CRMLAB_DATA_DIR"
        return super().not_here(target)


class TestCustomerFile(Published):
    room, reproduce = "customer_file", staticmethod(data.reproduce)

    def not_here(self, target):
        if target.startswith("febrl3.model.") and not importlib.util.find_spec("splink"):
            return "the extra `identity` is not installed"
        return super().not_here(target)

    def test_what_is_our_own_is_not_called_published(self):
        table = data.published("customer_file")
        own = table["source"].str.startswith("crmlab")
        assert own[own].index.str.contains("rules|model|log|by_country|sums").all()
        assert (table.loc[own, "source"].str.endswith("not printed elsewhere")).all()


class TestEconomics(Published):
    room, reproduce = "economics", staticmethod(clv.reproduce_economics)


class TestLifecycle(Published):
    room, reproduce = "lifecycle", staticmethod(lifecycle.reproduce)


class TestLoyalty(Published):
    room, reproduce = "loyalty", staticmethod(loyalty.reproduce)


class TestMarket(Published):
    room, reproduce = "market", staticmethod(market.reproduce)


ROOMS = [TestCases, TestClv, TestCustomerFile, TestEconomics, TestLifecycle, TestLoyalty, TestMarket]


def pytest_generate_tests(metafunc):
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", data.published(metafunc.cls.room).index)


def test_every_file_of_published_numbers_is_computed():
    assert {room.room for room in ROOMS} == {file.stem for file in FOLDER.glob("*.toml")}


def test_a_number_off_by_more_than_its_tolerance_differs():
    table = data.compare_published("clv", {"cdnow_sample.bgnbd.r": 0.2436})
    assert table["verdict"].item() == "differs"


def test_unknown_rooms_and_targets_are_refused():
    with pytest.raises(DataError, match=r"nothing\.toml does not exist"):
        data.published("nothing")
    with pytest.raises(DataError, match="no target named x"):
        data.compare_published("clv", {"x": 1})


@pytest.mark.parametrize(
    ("reproduce", "subject", "known"),
    [
        (cases.reproduce, "amazon", ".*dell"),
        (data.reproduce, "febrl", "febrl3, online_retail"),
        (lifecycle.reproduce, "cdnov", "freireich, rossi"),
        (market.reproduce, "grocerys", ".*groceries"),
    ],
)
def test_a_subject_of_which_nothing_is_published_is_refused(reproduce, subject, known):
    with pytest.raises(DataError, match=f"Nothing is published of {subject}; there are {known}"):
        reproduce([subject])
