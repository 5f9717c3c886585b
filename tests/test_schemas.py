"""The customer tables: every failure listed, no row lost, ages derived, conflicts and delays shown."""

import datetime

import ibis
import pandas as pd
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from crmlab import data
from crmlab.data.contracts import CONTRACTS, contract_of

AS_OF = "2024-06-30"


def n(table):
    return table.count().to_pyarrow().as_py()


def listed(found):
    return found.failures[["row", "column", "value", "problem"]].astype(object).values.tolist()


CUSTOMERS = pd.DataFrame(
    {
        "Kunden-ID": ["7", "7", None, "8", "9"],
        "CustomerID": ["1", "1", None, "2", "3"],
        "E-Mail": ["no", "a@b.example", "", "x@y.example", None],
        "Birthday": ["1980-01-01", "2030-01-01", "1-1-1", "1850-05-05", None],
        "status": ["active", "gone", None, None, "closed"],
    }
)


def test_every_failure_is_listed_and_not_the_first_only():
    found = data.validate(CUSTOMERS, "customers", AS_OF)
    assert listed(found) == [
        [1, "email", "no", "is no e-mail address"],
        [2, "birth_date", "2030-01-01", "lies after the day of the check"],
        [2, "customer_id", "1", "is in an earlier row already"],
        [2, "status", "gone", "is not one of the known words"],
        [3, "birth_date", "1-1-1", "is not a date"],
        [3, "customer_id", found.failures["value"][5], "is missing"],
        [4, "birth_date", "1850-05-05", "lies before 1900"],
    ]
    assert found.failures["what_to_do"].str.len().min() > 10
    assert set(found.failures["table"]) == {"customers"}
    assert "unreachable" in found.failures.loc[3, "what_to_do"]


def test_rows_set_aside_keep_every_cell_as_it_was():
    found = data.validate(CUSTOMERS, "customers", AS_OF)
    aside = found.set_aside.order_by("row").to_pandas()
    assert aside.columns.tolist() == ["row", "reasons", *CUSTOMERS.columns]
    assert aside["row"].tolist() == [1, 2, 3, 4]
    assert aside["Birthday"].tolist() == CUSTOMERS["Birthday"].tolist()[:4]
    assert aside["reasons"][0] == "email is no e-mail address"
    kept = found.kept.to_pandas()
    assert kept["customer_id"].tolist() == ["3"]
    assert kept["Kunden-ID"].tolist() == ["9"]
    assert "4 set aside" in str(found)
    assert "row 4, column 'birth_date': '1850-05-05' lies before 1900" in str(found)


def test_an_age_is_never_kept():
    found = data.validate(pd.DataFrame({"customer_id": ["a"], "Age": [30]}), "customers", AS_OF)
    assert found.kept.columns == ("customer_id",)
    assert found.failures[["column", "problem"]].values.tolist() == [["Age", "is stored, but changes with time"]]
    assert found.failures["row"].isna().all()


def test_a_closed_case_is_not_opened_later():
    cases = pd.DataFrame(
        {
            "case_id": ["a", "b", "c", "d"],
            "customer_id": [1, 2, 3, 4],
            "opened": ["2024-01-05", "2024-01-07", "x", "2024-01-05"],
            "closed": ["2024-01-04", None, "2024-01-03", "2024-01-05"],
        }
    )
    found = data.validate(cases, "service_cases", AS_OF)
    assert listed(found) == [
        [1, "closed", "2024-01-04", "is before the start"],
        [3, "opened", "x", "is not a date"],
    ]
    assert found.kept.to_pandas()["customer_id"].tolist() == ["2", "4"]


def test_numbers_and_dates_are_read_as_their_column_writes_them(tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text("CustNo;Datum;Betrag\n007;31.01.2024;€ 1.234,50\n8;01.02.2024;7,5\n9;soon;x\n", encoding="utf-8")
    found = data.validate(file, "orders", AS_OF, date="Datum", amount="Betrag")
    kept = found.kept.to_pandas()
    assert kept["customer_id"].tolist() == ["007", "8"]
    assert kept["amount"].tolist() == [1234.5, 7.5]
    assert kept["date"].tolist() == [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-01")]
    assert listed(found) == [[3, "amount", "x", "is not a number"], [3, "date", "soon", "is not a date"]]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["1980-04-03", "03.04.1980", "1980年4月3日", "19800403"], [True] * 4),
        # What can be read two ways is not read beside what cannot: a spreadsheet may have turned half of the column.
        (["1980-04-03", "1981-04-03", "25/12/1980"], [True, True, False]),
        (["25/12/1980", "26/12/1980", "1980-04-03"], [True, True, False]),
    ],
)
def test_birth_dates_may_be_written_in_several_ways_as_long_as_each_has_one_meaning(cells, read):
    people = pd.DataFrame({"customer_id": range(len(cells)), "birth_date": cells})
    found = data.validate(people, "customers", AS_OF)
    assert found.kept.customer_id.to_pyarrow().to_pylist() == [str(i) for i, good in enumerate(read) if good]


def test_the_moments_of_a_log_are_written_in_one_way():
    log = pd.DataFrame({"customer_id": "a", "date": ["1980-04-03", "03.04.1980", "04.04.1980"], "amount": 1.0})
    assert listed(data.validate(log, "orders", AS_OF)) == [[1, "date", "1980-04-03", "is not a date"]]


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "duckdb", "ibis", "parquet"])
def test_every_kind_of_table_gives_the_same_failures(kind, tmp_path):
    frame = CUSTOMERS.drop(columns="Kunden-ID")
    if kind == "parquet":
        frame.to_parquet(tmp_path / "c.parquet")
    source = {
        "pandas": lambda: frame,
        "polars": lambda: pl.from_pandas(frame),
        "arrow": lambda: pl.from_pandas(frame).to_arrow(),
        "duckdb": lambda: ibis.duckdb.connect().create_table("c", pl.from_pandas(frame).to_arrow()),
        "ibis": lambda: ibis.memtable(pl.from_pandas(frame)),
        "parquet": lambda: tmp_path / "c.parquet",
    }[kind]()
    found = data.validate(source, "customers", AS_OF)
    expected = data.validate(CUSTOMERS, "customers", AS_OF)
    assert found.failures.fillna("").values.tolist() == expected.failures.fillna("").values.tolist()


def test_more_rows_than_a_batch_are_numbered_through(monkeypatch):
    from crmlab.data import contracts

    monkeypatch.setattr(contracts, "BATCH", 1000)
    frame = pd.DataFrame({"customer_id": range(5000), "email": ["a@b.example"] * 4999 + ["x"]})
    frame.loc[4000, "customer_id"] = 3
    found = data.validate(frame, "customers", AS_OF)
    assert listed(found) == [
        [4001, "customer_id", "3", "is in an earlier row already"],
        [5000, "email", "x", "is no e-mail address"],
    ]


CELLS = st.one_of(
    st.none(),
    st.text(max_size=6),
    st.sampled_from(["", "a", "1", "2024-01-31", "31.01.2024", "1,5", "NaN", "x@y", "active", "1e999", "=1", "男"]),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.datetimes(),
)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(contract=st.sampled_from(list(CONTRACTS)), rows=st.integers(1, 6), draws=st.data())
def test_rows_in_are_rows_kept_and_rows_set_aside(contract, rows, draws):
    schema = contract_of(contract)
    names = [name for name, column in schema.columns.items() if column.required or draws.draw(st.booleans())]
    names += draws.draw(st.lists(st.sampled_from(["note", "row", "reasons", "bad_date_", "Extra 1"]), unique=True))
    frame = pd.DataFrame({name: pd.Series(draws.draw(_cells(rows)), dtype=object) for name in names})
    try:
        found = data.validate(frame, contract, AS_OF)
    except data.DataError:  # a column of two meanings or of a type that makes no sense: refused whole
        return
    assert found.rows == rows == n(found.kept) + n(found.set_aside)
    assert sorted(found.failures["row"].dropna().unique()) == sorted(found.set_aside.to_pandas()[_row(found)].tolist())
    assert set(schema.columns) & set(names) <= set(found.kept.columns)


def _cells(rows):
    return st.one_of(
        st.lists(CELLS, min_size=rows, max_size=rows),
        st.lists(st.text(max_size=4), min_size=rows, max_size=rows),
        st.lists(st.datetimes(), min_size=rows, max_size=rows),
        st.lists(st.floats(), min_size=rows, max_size=rows),
    )


def _row(found):
    return next(name for name in found.set_aside.columns if name.startswith("row"))


@pytest.mark.parametrize(
    ("frame", "contract", "options", "says"),
    [
        ({"a": [1]}, "orders", {}, "No column could be found for customer_id and date and amount"),
        ({"customer_id": [1]}, "clients", {}, "There is no customer table"),
        ({"customer_id": [1]}, "customer", {}, "Did you mean customers"),
        ({"custid": [1], "clientid": [2]}, "customers", {}, "More than one column could be customer_id"),
        ({"x": [1]}, "customers", {"customer_id": "y"}, "There is no column 'y' for customer_id"),
        ({"x": [1]}, "customers", {"client": "x"}, "'client' is no column of customers"),
        ({"customer_id": [1], "birth_date": ["01/02/1999"]}, "customers", {}, r"Say which: validate\(…, date_format"),
        ({"customer_id": [1], "birth_date": [True]}, "customers", {}, "has the type boolean, which is no day"),
    ],
)
def test_a_table_that_cannot_be_checked_is_refused_in_words(frame, contract, options, says):
    with pytest.raises(data.DataError, match=says):
        data.validate(pd.DataFrame(frame), contract, AS_OF, **options)


def test_the_contracts_are_pandera_schemas_that_work_alone():
    import pandera.pandas as pa

    with pytest.raises(pa.errors.SchemaErrors) as caught:
        data.survey.validate(pd.DataFrame({"respondent_id": ["a", "a", None]}), lazy=True)
    assert len(caught.value.failure_cases) == 2


def test_complete_journey_is_a_clean_orders_table():
    found = data.validate(data.load("complete_journey").limit(150_000), "orders", AS_OF)
    assert (found.rows, len(found.failures)) == (150_000, 0)


@pytest.mark.parametrize(
    ("born", "day", "years"),
    [
        ("2004-02-29", "2023-02-28", 18),
        ("2004-02-29", "2023-03-01", 19),
        ("2004-02-29", "2024-02-28", 19),
        ("2004-02-29", "2024-02-29", 20),
        ("2000-12-31", "2024-12-30", 23),
        ("2024-02-29", "2024-02-29", 0),
        ("2024-03-01", "2024-02-29", None),
        (None, "2024-02-29", None),
    ],
)
def test_an_age_is_derived_the_same_way_everywhere(born, day, years):
    assert data.age(born, day) == years
    frame = pd.DataFrame({"born": pd.to_datetime(pd.Series([born, "1970-01-01"]))})
    series = data.age(frame["born"], day)
    column = ibis.memtable(frame).mutate(age=lambda t: data.age(t.born, day)).to_pyarrow()["age"].to_pylist()
    assert [None if pd.isna(v) else v for v in series] == column == [years, 2024 - 1970 - (day[:4] == "2023")]


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1)), st.integers(0, 40_000))
def test_an_age_grows_by_one_on_one_day_a_year(born, days):
    day = born + datetime.timedelta(days=days)
    step = data.age(born, day + datetime.timedelta(days=1)) - data.age(born, day)
    tomorrow = day + datetime.timedelta(days=1)
    leap = born.month == 2 and born.day == 29
    birthday = (tomorrow.month, tomorrow.day) == (born.month, born.day) or (
        leap and (tomorrow.month, tomorrow.day) == (3, 1) and day.day == 28
    )
    assert step == int(birthday)


def test_completeness_counts_blank_text_as_missing():
    found = data.completeness(pd.DataFrame({"id": [1, 2, 3, 4], "mail": ["a", " ", "", None]}))
    assert found.values.tolist() == [["mail", 4, 1, 3, 0.25], ["id", 4, 4, 0, 1.0]]


def test_conflicts_show_who_says_what():
    shop = pd.DataFrame({"customer_id": ["1", "2", "3"], "city": ["Bonn", "Ulm", None], "phone": ["11", None, "13"]})
    erp = pd.DataFrame({"customer_id": ["1", "2", "4"], "city": ["Köln", "ulm ", "Trier"], "phone": ["11", "12", "1"]})
    calls = pd.DataFrame({"customer_id": ["1", "1"], "city": ["Bonn", "Jena"]})
    found = data.conflicts({"shop": shop, "erp": erp, "calls": calls})
    assert found.values.tolist() == [["1", "city", "Bonn", "Köln", "Bonn | Jena"]]
    assert data.conflicts({"shop": shop, "again": shop}).empty
    with pytest.raises(data.DataError, match="erp has no column 'client'"):
        data.conflicts({"erp": erp}, key="client")


def test_timeliness_says_as_of_when_and_where_the_gaps_are():
    days = [*pd.date_range("2024-01-01", periods=20), *pd.date_range("2024-03-01", periods=10)]
    log = pd.DataFrame({"date": [*days, pd.NaT, pd.Timestamp("2025-01-01")]})
    (row,) = data.timeliness({"orders": log}, "2024-03-15").to_dict("records")
    assert (row["rows"], row["undated"], row["later"]) == (32, 1, 1)
    assert (row["first"], row["data_as_of"], row["lag"]) == (datetime.date(2024, 1, 1), datetime.date(2024, 3, 10), 5)
    assert (row["gaps"], row["gap_days"]) == (1, 41)
    assert (row["gap_from"], row["gap_until"]) == (datetime.date(2024, 1, 20), datetime.date(2024, 3, 1))
    with pytest.raises(data.DataError, match="no column 'opened' of dates"):
        data.timeliness({"cases": (log, "opened")})
