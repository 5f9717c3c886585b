"""The cube: what SQL's CUBE and ROLLUP give, and that distinct customers do not add up."""

import ibis
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data

MEASURES = {"revenue": ("sum", "amount"), "lines": ("count", "amount"), "customers": ("nunique", "customer_id")}
LOG = pd.DataFrame(
    {
        "country": ["UK", "UK", None, "EIRE", "EIRE", None],
        "year": [2010, 2011, 2011, 2010, 2010, 2010],
        "customer_id": ["a", "b", "a", "a", "c", None],
        "amount": [1.0, 2.0, 4.0, 8.0, 16.0, None],
    }
)
ASKED = "sum(amount), count(amount), count(DISTINCT customer_id)"


def as_sets(frame):
    return {tuple(None if pd.isna(v) else v for v in row) for row in frame.itertuples(index=False)}


def engine(sql):
    """What the engine's own grouping sets give, with their grouping as bits."""
    con = data.connect().con.cursor()
    con.register("log_of_test", LOG.astype({"country": object, "customer_id": object}))
    return con.sql(sql).df()


@pytest.mark.parametrize("rollup", [False, True])
def test_a_cube_is_what_sql_calls_one(rollup):
    how = "ROLLUP" if rollup else "CUBE"
    expected = engine(
        f"SELECT grouping(country), country, year, {ASKED} FROM log_of_test GROUP BY {how} (country, year)"
    )
    found = data.cube(LOG, ["country", "year"], MEASURES, rollup=rollup)
    without_country = sum("country" not in grouping.split(" × ") for grouping in found.pop("grouping"))
    assert as_sets(found) == as_sets(expected.iloc[:, 1:])
    assert len(found) == len(expected)
    assert without_country == int(expected.iloc[:, 0].sum())


def test_a_missing_country_is_not_all_countries():
    found = data.cube(LOG, ["country"], MEASURES)
    nowhere = found[found["country"].isna()]
    assert nowhere[["grouping", "revenue"]].values.tolist() == [["country", 4.0], ["total", 31.0]]


@pytest.mark.parametrize("kind", ["pandas", "polars frame", "polars engine", "duckdb"])
def test_every_engine_gives_the_same_cube(kind, tmp_path):
    expected = data.cube(LOG, ["country", "year"], MEASURES)
    LOG.to_parquet(tmp_path / "log.parquet")
    source = {
        "pandas": LOG,
        "polars frame": pl.from_pandas(LOG),
        "polars engine": ibis.polars.connect({"log": pl.from_pandas(LOG)}).table("log"),
        "duckdb": data.connect().read_parquet(tmp_path / "log.parquet"),
    }[kind]
    found = data.cube(source, ["country", "year"], MEASURES)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-9)


def test_online_retail_has_13_customers_of_two_countries():
    """Both sheets joined without their overlap; rows with a customer, a positive quantity and a positive price."""
    t = data.load("online_retail_two_years")
    bought = t.filter(t.customer_id.notnull(), t.quantity > 0, t.unit_price > 0)
    money, people = data.rollup_check(
        bought, ["country"], {"revenue": ("sum", "amount"), "customers": ("nunique", "customer_id")}
    ).to_dict("records")
    assert money["adds_up"]
    assert money["total"] == pytest.approx(17_431_533.18, abs=0.005)
    assert (people["parts"], people["total"], people["surplus"], people["adds_up"]) == (5891, 5878, 13, False)
    assert (people["in_several"], people["explain"]) == (13, 13)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["x", "y", None]), st.sampled_from([1, 2, None]), st.integers(-5, 5)), min_size=1
    )
)
def test_the_surplus_of_distinct_values_is_always_explained(rows):
    t = pd.DataFrame(rows, columns=["dim", "id", "amount"]).astype({"dim": object, "id": "Int64"})
    t["dim"] = t["dim"].where(t["dim"].notna(), None)
    money, ids = data.rollup_check(t, ["dim"], {"m": ("sum", "amount"), "n": ("nunique", "id")}).to_dict("records")
    assert money["adds_up"]
    assert ids["surplus"] == ids["explain"]
    assert ids["adds_up"] == (ids["in_several"] == 0)


@pytest.mark.parametrize(
    ("dims", "measures", "says"),
    [
        (["land"], MEASURES, "no column 'land'"),
        (["country"], {"x": ("sum", "money")}, "no column 'money'"),
        (["country"], {"x": ("total", "amount")}, "one of sum"),
        (["year"], {"x": ("mean", "country")}, "a mean needs numbers"),
        (["country"], {"x": "amount"}, "how and the column"),
        (["country"], {"country": ("sum", "amount")}, "stands twice"),
        (["country"], {}, "measures is empty"),
    ],
)
def test_a_wrong_question_is_refused_in_words(dims, measures, says):
    with pytest.raises(data.DataError, match=says):
        data.cube(LOG, dims, measures)


def test_without_dimensions_there_is_the_total():
    assert data.cube(LOG, [], MEASURES).values.tolist() == [["total", 31.0, 5, 3]]
