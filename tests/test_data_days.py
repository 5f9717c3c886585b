import datetime

import ibis
import pandas as pd
import pytest

from crmlab import clv, data, lifecycle
from crmlab.data import DataError
from crmlab.data.days import dated, day_of

DAYS = [datetime.date(2024, 2, 29), datetime.date(2024, 1, 31), datetime.date(2024, 3, 1)]
LOG = pd.DataFrame({"customer_id": ["a", "b", "a"], "date": DAYS, "amount": [1.0, 2.0, 3.0]})


@pytest.fixture(params=["days", "times", "frame", "loaded twice", "polars"])
def log(request, tmp_path):
    """The same log as a Parquet file of days and one of times, as a frame, read before, and in another engine."""
    times = LOG.assign(date=pd.to_datetime(LOG["date"]) + pd.Timedelta(hours=23, minutes=59))
    table = LOG if request.param == "days" else times
    if request.param == "polars":
        return ibis.polars.connect().create_table("log", table)
    if request.param == "frame":
        return table
    table.to_parquet(tmp_path / "log.parquet")
    return data.load(tmp_path / "log.parquet") if request.param == "loaded twice" else tmp_path / "log.parquet"


def test_days_and_times_are_the_same_days(log):
    found, first, last = dated(data.load(log), ["amount"])
    assert (first, last) == (datetime.date(2024, 1, 31), datetime.date(2024, 3, 1))
    assert type(first) is type(last) is datetime.date
    assert found.columns == ("customer_id", "amount", "day")
    assert found.schema()["day"].is_date()
    rows = found.to_pandas().sort_values("amount")
    assert pd.to_datetime(rows["day"]).dt.date.to_list() == DAYS
    assert rows["customer_id"].to_list() == ["a", "b", "a"]


def test_days_that_were_stored_as_days_are_not_made_times_and_days_again(tmp_path):
    LOG.to_parquet(tmp_path / "log.parquet")
    query = ibis.to_sql(dated(data.load(tmp_path / "log.parquet"))[0])
    assert '"date" AS "day"' in query
    assert "TIMESTAMP" not in query


def test_rows_without_customer_date_or_amount_are_counted():
    lacking = LOG.assign(
        customer_id=["a", None, "a"], date=pd.to_datetime(LOG["date"]).where([False, True, True]), amount=None
    ).astype({"amount": float})
    with pytest.raises(DataError, match=r"Of 3 rows, 1 have no customer_id, 1 no date and 3 no amount\. .*audit"):
        dated(data.load(lacking), ["amount"])
    assert "amount" not in dated(data.load(LOG.assign(amount=None).astype({"amount": float})))[0].columns
    with pytest.raises(DataError, match="The log has no rows"):
        dated(data.load(LOG).limit(0))


def test_infinite_amounts_are_none_only_where_it_is_asked():
    log = data.load(LOG.assign(amount=[1.0, float("inf"), 2.0]))
    assert dated(log, ["amount"])[1] == datetime.date(2024, 1, 31)
    with pytest.raises(DataError, match="1 no amount"):
        dated(log, ["amount"], finite=True)


@pytest.mark.parametrize("room", [clv.summarize, lifecycle.states])
def test_both_rooms_refuse_a_log_in_the_same_words(room):
    with pytest.raises(DataError, match="Of 3 rows, 1 have no customer_id, 0 no date and 0 no amount"):
        room(LOG.assign(customer_id=[None, "b", "a"]))


@pytest.mark.parametrize("value", ["2024-01-31", "2024-01-31 23:59", DAYS[1], pd.Timestamp("2024-01-31 12:00")])
def test_a_day_is_read_from_text_and_dates(value):
    assert day_of("end", value) == datetime.date(2024, 1, 31)


@pytest.mark.parametrize("value", ["31/01/2024", "2024-02-30", "", object()])
def test_other_text_is_no_day(value):
    with pytest.raises(DataError, match="end must be a date such as 2024-01-31, not"):
        day_of("end", value)
