"""A warehouse in one folder: files that are only ever added, and one small file that says which of them count.

Every load writes new Parquet files and then replaces `warehouse.json`, which lists all files that count, in one step of
the file system. A load that is killed leaves files that nothing lists; the next one removes them. Nothing is updated
in place: validity intervals, dimensions and facts are views over what was loaded.
"""

import contextlib
import datetime
import hashlib
import json
import os
from pathlib import Path

import duckdb
import ibis
import pandas as pd

from crmlab.data.contracts import CONTRACTS, contract_of, validate
from crmlab.data.days import day_of
from crmlab.data.engine import connect
from crmlab.data.errors import DataError
from crmlab.data.masking import mask
from crmlab.data.textfile import keep, quoted

STATE = "warehouse.json"
LOG = ["load", "loaded_at", "table", "source", "valid_from", "rows", "kept", "set_aside", "known", "sha256"]
# Where one day of an event is: it decides what an as-of query sees.
DAY = {"orders": "date", "campaign_responses": "date", "interactions": "date"}


class Warehouse:
    """A star schema of the customer tables in a folder.

    Tables with a key (customers, service_cases, survey) keep every version, each with the days between which it was
    valid. The others (orders, campaign_responses, interactions) keep events; a row whose contract columns an earlier
    load has already, as often as it has them, is the same event told again and is set aside.

    Parameters
    ----------
    path : str or pathlib.Path
        Folder that `Warehouse.create` made.

    Raises
    ------
    DataError
        There is no warehouse.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._state()

    @classmethod
    def create(cls, path):
        """Make an empty warehouse.

        Parameters
        ----------
        path : str or pathlib.Path
            A folder that is not there yet, or is empty.

        Returns
        -------
        Warehouse
            The warehouse.

        Raises
        ------
        DataError
            There is something in the folder.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise DataError(f"{path} is not an empty folder; name another one for the warehouse.")
        path.mkdir(parents=True, exist_ok=True)
        _replace(path / STATE, {"format": 1, "loads": []})
        return cls(path)

    def load(self, source, table, valid_from=None, as_of=None, **options):
        """Check a table against its contract and add what is new; all of it or, when interrupted, nothing.

        Parameters
        ----------
        source : str, pathlib.Path, frame or ibis.Table
            See `crmlab.data.load`.
        table : str
            One of customers, orders, service_cases, campaign_responses, interactions, survey.
        valid_from : date or str, optional
            From which day on a row of a table with a key is true, today by default.
        as_of : date or str, optional
            The day of the check, today by default; later dates are set aside.
        **options : str
            See `crmlab.data.validate`; its `table` (of a database) is `database_table` here.

        Returns
        -------
        dict
            The line of the load log; `known` is the number of the load that had the same content, and then nothing
            was added.

        Raises
        ------
        DataError
            The table cannot be read, or another load is under way.
        """
        contract_of(table)
        day = datetime.date.today() if valid_from is None else day_of("valid_from", valid_from)
        if "database_table" in options:
            options["table"] = options.pop("database_table")
        found = validate(source, table, as_of, **options)
        with self._locked():
            state = self._state()
            self._sweep(state)
            columns = {name: str(found.kept[name].type()) for name in found.kept.columns}
            self._fits(state, table, columns)
            key = CONTRACTS[table].metadata["key"]
            content = _content(source, found, table, day if key else None)
            line = {
                "load": len(state["loads"]) + 1,
                "loaded_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "table": table,
                "source": mask(found.source),
                "valid_from": day.isoformat() if key else None,
                "rows": found.rows,
                "sha256": content,
            }
            for known in state["loads"]:
                if known["sha256"] == content:
                    return line | {"load": known["load"], "kept": 0, "set_aside": 0, "known": known["load"]}
            folder = self.path / f"load-{line['load']:06d}"
            folder.mkdir()
            kept, again = found.kept, None
            if key is None:
                kept, again = self._new(state, table, found.kept)
            line["kept"] = _write(kept, folder / "kept.parquet")
            failed = _write(_as_text(found.set_aside), folder / "set_aside.parquet")
            repeated = _write(again, folder / "repeated.parquet") if again is not None else 0
            line |= {"set_aside": failed + repeated, "repeated": repeated, "known": None, "columns": columns}
            if line["kept"] + line["set_aside"] != found.rows:
                raise DataError(f"{found.source}: rows were lost on the way; nothing was loaded.")
            found.failures.to_csv(folder / "failures.csv", index=False)
            _replace(self.path / STATE, state | {"loads": [*state["loads"], line]})
        return {name: value for name, value in line.items() if name != "columns"}

    def log(self):
        """Return the load log.

        Returns
        -------
        pandas.DataFrame
            One row a load: its number, when, table, source, valid_from, rows, kept, set_aside (of them `repeated`),
            sha256 of the content.
        """
        columns = [*(name for name in LOG if name != "known"), "repeated"]
        return pd.DataFrame(self._state()["loads"], columns=columns)

    def tables(self):
        """Return the names that a query may use.

        Returns
        -------
        list of str
            The customer tables that were loaded, dimensions and facts.
        """
        return list(self._views(None))

    def table(self, name, as_of=None):
        """Return a table, a dimension or a fact table.

        Parameters
        ----------
        name : str
            One of `tables()`.
        as_of : date or str, optional
            The day as of which to answer: the versions valid then, and the events until then; without it the latest
            versions and all events.

        Returns
        -------
        ibis.Table
            The table, in the embedded engine.

        Raises
        ------
        DataError
            No such table, or nothing was loaded into it.
        """
        views = self._views(as_of)
        if name not in views:
            raise DataError(
                f"The warehouse {self.path} has no table {name!r}. It has {', '.join(views) or 'none yet'}; "
                f"crmlab warehouse load {self.path} FILE --table orders adds one."
            )
        return keep(views[name], "VIEW")

    def query(self, sql, as_of=None):
        """Answer a question in SQL.

        Parameters
        ----------
        sql : str
            One SELECT over `tables()`.
        as_of : date or str, optional
            See `table`.

        Returns
        -------
        pandas.DataFrame
            The answer.

        Raises
        ------
        DataError
            The SQL is wrong, or would change something.
        """
        con = duckdb.connect()
        try:
            asked = con.extract_statements(sql)
            if len(asked) != 1 or asked[0].type != duckdb.StatementType.SELECT:
                raise DataError("A query is one SELECT; what was loaded into a warehouse is never changed.")
            for name, view in self._views(as_of).items():
                con.execute(f'CREATE VIEW "{name}" AS {view}')
            return con.sql(sql).df()
        except duckdb.Error as error:
            raise DataError(f"The query cannot be answered: {error}\nTables: {', '.join(self.tables())}.") from error
        finally:
            con.close()

    def check(self):
        """Check that the files are those that were loaded and that the tables fit together.

        Returns
        -------
        pandas.DataFrame
            `check`, `table`, `rows` to blame (0 is good), `severity` ("error", "warning") and `meaning`.
        """
        rows, state = [], self._state()
        for load in state["loads"]:
            lost = _wrong_files(self.path / f"load-{load['load']:06d}", load)
            rows.append(("files whole", f"load {load['load']}", lost, "error", "Copy them back from a backup."))
        damaged = any(row[2] for row in rows)
        views = {} if damaged else self._views(None)
        for table in views:
            contract = CONTRACTS.get(table)
            if contract and table not in ("customers", "survey") and "customers" in views:
                orphans = f"({views[table]}) t ANTI JOIN ({views['customers']}) c USING (customer_id)"
                count = _number(f"SELECT count(*) FROM {orphans}")
                rows.append(("customers known", table, count, "warning", "Load the customers they are of."))
            if contract and (key := contract.metadata["key"]):
                count = _number(f"SELECT count(*) - count(DISTINCT {key}) FROM ({views[table]})")
                rows.append(("one version at a time", table, count, "error", "Two versions are valid at once."))
        return pd.DataFrame(rows, columns=["check", "table", "rows", "severity", "meaning"])

    def _state(self):
        try:
            return json.loads((self.path / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path} is no warehouse; crmlab warehouse init {self.path} makes one of a new folder."
            ) from error

    @contextlib.contextmanager
    def _locked(self):
        # The engine's own file lock: it ends with the process, however that ends.
        try:
            lock = duckdb.connect(str(self.path / "lock.duckdb"))
        except duckdb.IOException:
            raise DataError(f"Another load into {self.path} is under way; try again when it has ended.") from None
        try:
            yield
        finally:
            lock.close()

    def _sweep(self, state):
        """Remove what a killed load left."""
        listed = {f"load-{load['load']:06d}" for load in state["loads"]}
        for folder in self.path.glob("load-*"):
            if folder.name not in listed:
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()

    def _fits(self, state, table, columns):
        for load in state["loads"]:
            for name, kind in load["columns"].items():
                if load["table"] == table and columns.get(name, kind) != kind:
                    raise DataError(
                        f"Column {name!r} is {columns[name]} here and was {kind} in load {load['load']}; "
                        "convert it in the source, or name it differently."
                    )

    def _files(self, state, table):
        return [
            (load, self.path / f"load-{load['load']:06d}" / "kept.parquet")
            for load in state["loads"]
            if load["table"] == table
        ]

    def _stored(self, state, table):
        """All rows of a table with `load_` and, where it has a key, `valid_from`; None when nothing was loaded."""
        parts = [
            f"SELECT *, {load['load']} AS load_"
            + (f", DATE {quoted(load['valid_from'])} AS valid_from" if load["valid_from"] else "")
            + f" FROM read_parquet({quoted(file.absolute())})"
            for load, file in self._files(state, table)
        ]
        return " UNION ALL BY NAME ".join(parts) if parts else None

    def _new(self, state, table, kept):
        """The rows that no earlier load has as often, and the others."""
        stored = self._stored(state, table)
        if stored is None:
            return kept, kept.limit(0)
        known = keep(f"SELECT * EXCLUDE (load_) FROM ({stored})")
        # The contract's columns say which event it is, all others describe it (and are spelled now so, now so); a
        # column that only one of the two has is empty in the other.
        columns = [c for c in CONTRACTS[table].columns if c in (*kept.columns, *known.columns)]
        kinds = dict(known.schema().items()) | dict(kept.schema().items())

        def with_all(t):
            return t.mutate(**{c: ibis.null(kinds[c]) for c in columns if c not in t.columns})

        place = ibis.row_number().over(ibis.window(group_by=columns))
        mine = keep(ibis.to_sql(with_all(kept).mutate(place_=place), dialect="duckdb"))
        counts = with_all(known).group_by(columns).aggregate(n_=lambda t: t.count())
        joined = mine.left_join(counts, [mine[c].identical_to(counts[c]) for c in columns])
        joined = joined.select(*(mine[c] for c in mine.columns), n_=counts.n_.fill_null(0))
        new = joined.filter(joined.place_ >= joined.n_).select(*kept.columns)
        again = joined.filter(joined.place_ < joined.n_).select(*kept.columns)
        return new, again

    def _views(self, as_of):
        """SQL of every table that was loaded, of the dimensions and of the facts."""
        day = None if as_of is None else day_of("as_of", as_of)
        state, views = self._state(), {}
        versions = {}
        for table, contract in CONTRACTS.items():
            stored, key = self._stored(state, table), contract.metadata["key"]
            if stored is None:
                continue
            if key:
                versions[table] = _versions(stored, key)
                now = f"valid_from <= DATE '{day}' AND (valid_to IS NULL OR valid_to > DATE '{day}')" if day else ""
                views[table] = f"SELECT * FROM ({versions[table]}) WHERE {now or 'valid_to IS NULL'}"
            else:
                until = f" WHERE {DAY[table]} < DATE '{day}' + INTERVAL 1 DAY" if day else ""
                views[table] = f"SELECT * FROM ({stored}){until}"
        if "customers" in views:
            known = f" WHERE valid_from <= DATE '{day}'" if day else ""
            views["dim_customer"] = (
                f"SELECT md5(customer_id || '|' || valid_from) AS customer_key, * FROM ({versions['customers']}){known}"
            )
        if "orders" in views:
            orders = views["orders"]
            if "product_id" in _columns(orders):
                views["dim_product"] = (
                    f"SELECT product_id, min(date) AS first_sold, max(date) AS last_sold FROM ({orders}) "
                    "WHERE product_id IS NOT NULL GROUP BY product_id"
                )
            views["dim_date"] = (
                "SELECT d::DATE AS date_key, year(d) AS year, quarter(d) AS quarter, month(d) AS month, "
                "isoyear(d) AS iso_year, week(d) AS iso_week, isodow(d) AS weekday FROM (SELECT unnest("
                "generate_series(min(date)::DATE::TIMESTAMP, max(date)::DATE::TIMESTAMP, INTERVAL 1 DAY)) AS d "
                f"FROM ({orders}))"
            )
        for table in DAY:
            if table in views:
                join, customer = "", "NULL::VARCHAR"
                if "customers" in views:
                    # The version that was valid on the day of the event, not the latest one.
                    join = f"ASOF LEFT JOIN ({views['dim_customer']}) c ON e.customer_id = c.customer_id AND "
                    join += "e.date_key >= c.valid_from"
                    customer = "c.customer_key"
                event = f"SELECT *, {DAY[table]}::DATE AS date_key FROM ({views[table]})"
                views[f"fact_{table}"] = f"SELECT {customer} AS customer_key, e.* FROM ({event}) e {join}"
        return views


def _number(sql):
    with duckdb.connect() as con:
        return con.execute(sql).fetchone()[0]


def _columns(sql):
    with duckdb.connect() as con:
        return con.sql(f"SELECT * FROM ({sql}) LIMIT 0").columns


def _versions(stored, key):
    """One row a version: what was said, collapsed while it stays the same, until something else is said."""
    columns = _columns(stored)
    said = [f'"{c}"' for c in columns if c not in (key, "valid_from", "load_")]
    content = f"hash({', '.join(said)})" if said else "0"
    # Of two loads for the same day the later one counts.
    last = f"QUALIFY row_number() OVER (PARTITION BY {key}, valid_from ORDER BY load_ DESC) = 1"
    days = f"SELECT *, {content} AS said_ FROM ({stored}) {last}"
    order = f"OVER (PARTITION BY {key} ORDER BY valid_from)"
    changes = f"SELECT * FROM ({days}) QUALIFY lag(said_) {order} IS DISTINCT FROM said_"
    return f"SELECT * EXCLUDE (said_), lead(valid_from) {order} AS valid_to FROM ({changes})"


def _content(source, found, table, day):
    """What makes two loads the same: the bytes of a file, or the rows of anything else, and what they are read as."""
    digest = hashlib.sha256(json.dumps([table, str(day)]).encode())
    if isinstance(source, str | Path) and Path(source).is_file():
        with Path(source).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    # How it was read is part of it: the same bytes read by another date format are other rows.
    for part in (found.kept, _as_text(found.set_aside)):
        sql = ibis.to_sql(part, dialect="duckdb")
        asked = f"SELECT count(*), sum(hash(t)::HUGEINT) FROM ({sql}) t"
        digest.update(repr((part.columns, connect().con.cursor().execute(asked).fetchone())).encode())
    return digest.hexdigest()


def _as_text(table):
    return table.select(**{name: table[name].cast("string") for name in table.columns})


def _write(table, file):
    """Write a table and return its number of rows."""
    sql = ibis.to_sql(table, dialect="duckdb")
    connect().con.cursor().execute(f"COPY ({sql}) TO {quoted(file)} (FORMAT parquet, COMPRESSION zstd)")
    with file.open("rb+") as written:
        os.fsync(written.fileno())
    return connect().con.cursor().execute(f"SELECT count(*) FROM read_parquet({quoted(file)})").fetchone()[0]


def _replace(file, state):
    """Put the new state in the place of the old one in one step."""
    beside = file.with_name(f"{file.name}.new")
    with beside.open("w", encoding="utf-8") as sink:
        json.dump(state, sink, indent=1, ensure_ascii=False)
        sink.flush()
        os.fsync(sink.fileno())
    beside.replace(file)


def _wrong_files(folder, load):
    expected = {"kept": load["kept"], "set_aside": load["set_aside"] - load["repeated"]}
    wrong = 0
    for name, rows in expected.items():
        try:
            file = quoted(folder / f"{name}.parquet")
            wrong += _number(f"SELECT count(*) FROM read_parquet({file})") != rows
        except duckdb.Error:
            wrong += 1
    return wrong
