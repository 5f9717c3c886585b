"""A warehouse in one folder: files that are only ever added, and one small file that says which of them count.

Every load writes new Parquet files and then replaces `warehouse.json`, which lists all files that count, in one step of
the file system. A load that is killed leaves files that nothing lists; the next one removes them. Nothing is updated
in place: validity intervals, dimensions and facts are views over what was loaded.
"""

import contextlib
import datetime
import glob
import hashlib
import json
import os
import re
import tempfile
import uuid
from pathlib import Path

import duckdb
import ibis
import pandas as pd

from crmlab.data.contracts import CONTRACTS, contract_of, free_name, validate
from crmlab.data.days import day_of
from crmlab.data.download import whole
from crmlab.data.engine import connect
from crmlab.data.errors import DataError
from crmlab.data.masking import mask
from crmlab.data.sources import identifier
from crmlab.data.textfile import keep, quoted, sql

STATE = "warehouse.json"
# No variable of the calling program, no extension that would be fetched.
CLOSED = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
LOG = ["load", "loaded_at", "table", "source", "valid_from", "rows", "kept", "set_aside", "known", "sha256"]
# Names that the views make: a source's own column of that name gets a suffix, as in `load`.
MADE = ("load_", "valid_from", "valid_to", "said_", "place_", "n_", "customer_key", "date_key")
# Where one day of an event is: it decides what an as-of query sees.
DAY = {"orders": "date", "campaign_responses": "date", "interactions": "date"}


class Warehouse:
    """A star schema of the customer tables in a folder.

    Tables with a key (customers, service_cases, survey) keep every version, each with the days between which it was
    valid; of two for the same day the one loaded later counts, and who is missing from a later file stays. The others
    (orders, campaign_responses, interactions) keep events; a row whose contract columns an earlier load has already,
    as often as it has them, is the same event told again and is set aside.

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
            From which day on the rows of a table with a key are true, today by default.
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
        key = contract_of(table).metadata["key"]
        if valid_from is not None and key is None:
            raise DataError(f"valid_from is for tables with a key; the rows of {table} have their own days.")
        day = datetime.date.today() if valid_from is None else day_of("valid_from", valid_from)
        if "database_table" in options:
            options["table"] = options.pop("database_table")
        found = validate(source, table, as_of, **options)
        with self._locked(), self._damage_in_words():
            state = self._state()
            self._sweep(state)
            found_kept = found.kept.rename(_free_names(found.kept.columns))
            columns = {name: str(found_kept[name].type()) for name in found_kept.columns}
            self._fits(state, table, columns)
            line = {
                "load": len(state["loads"]) + 1,
                "loaded_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "table": table,
                "source": mask(found.source),
                "valid_from": day.isoformat() if key else None,
                "rows": found.rows,
                "sha256": _content(found, table, day if key else None),
            }
            if known := self._known(state, line, key):
                return line | {"load": known, "kept": 0, "set_aside": 0, "repeated": 0, "known": known}
            folder = self._folder(line)
            folder.mkdir()
            parts = {"kept": found_kept, "set_aside": _as_text(found.set_aside)}
            if key is None:
                parts["kept"], parts["repeated"] = self._new(state, table, found_kept)
            counts = {name: _write(part, folder / f"{name}.parquet") for name, part in parts.items()}
            repeated = counts.get("repeated", 0)
            line |= {"kept": counts["kept"], "set_aside": counts["set_aside"] + repeated, "repeated": repeated}
            line |= {"known": None, "columns": columns, "files": {f: _digest(folder / f"{f}.parquet") for f in parts}}
            if line["kept"] + line["set_aside"] != found.rows:
                raise DataError(f"{found.source}: rows were lost on the way; nothing was loaded.")
            found.failures.to_csv(folder / "failures.csv", index=False)
            _replace(self.path / STATE, state | {"loads": [*state["loads"], line]})
        return {name: value for name, value in line.items() if name not in ("columns", "files")}

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
        return list(self._views(self._state()))

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
        views = self._views(self._state(), as_of)
        if name not in views:
            raise DataError(
                f"The warehouse {self.path} has no table {name!r}. It has {', '.join(views) or 'none yet'}; "
                f"crmlab warehouse load {self.path} FILE --table orders adds one."
            )
        with self._damage_in_words():
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
        state = self._state()
        views = self._views(state, as_of)
        with tempfile.TemporaryDirectory(prefix="crmlab-") as spill, duckdb.connect(config=CLOSED) as con:
            # As they are, and as the views name them.
            names = [str(self._file(load)) for load in state["loads"]]
            files = ", ".join(quoted(name) for name in {*names, *map(glob.escape, names)})
            try:
                # A question sees this warehouse and nothing else of the machine.
                con.execute(f"SET temp_directory = {quoted(spill)}; SET allowed_paths = [{files}]")
                con.execute("SET enable_external_access = false; SET lock_configuration = true")
                asked = con.extract_statements(sql)
                if len(asked) != 1 or asked[0].type != duckdb.StatementType.SELECT:
                    raise DataError("A query is one SELECT; what was loaded into a warehouse is never changed.")
                with self._damage_in_words():
                    for name, view in views.items():
                        con.execute(f'CREATE VIEW "{name}" AS {view}')
                return con.sql(sql).df()
            except duckdb.Error as error:
                raise DataError(
                    f"The query cannot be answered: {error}\nTables: {', '.join(views) or 'none yet'}."
                ) from error

    def check(self):
        """Check that the files are those that were loaded and that the tables fit together.

        Returns
        -------
        pandas.DataFrame
            `check`, `table`, `rows` to blame (0 is good), `severity` ("error", "warning") and `meaning`.
        """
        rows, state = [], self._state()
        for load in state["loads"]:
            files = {self._file(load, name): digest for name, digest in load["files"].items()}
            lost = sum(not file.is_file() or _digest(file) != digest for file, digest in files.items())
            rows.append(("files whole", f"load {load['load']}", lost, "error", "Copy them back from a backup."))
        damaged = any(row[2] for row in rows)
        views = {} if damaged else self._views(state)
        for table in views:
            contract = CONTRACTS.get(table)
            if contract and table not in ("customers", "survey") and "customers" in views:
                orphans = f"({views[table]}) t ANTI JOIN ({views['customers']}) c USING (customer_id)"
                count = _number(f"SELECT count(*) FROM {orphans}")
                advice = "Load the customers they are of, or mend those that were set aside."
                rows.append(("customers known", table, count, "warning", advice))
            if table in DAY and "customers" in views:
                fact = f"(SELECT DISTINCT customer_id FROM ({views[f'fact_{table}']}) WHERE customer_key IS NULL)"
                count = _number(f"SELECT count(*) FROM {fact} SEMI JOIN ({views['customers']}) USING (customer_id)")
                advice = "They have events before their first version: load them with an earlier valid_from."
                rows.append(("customers known on the day", table, count, "warning", advice))
            if contract and (key := contract.metadata["key"]):
                count = _number(f"SELECT count(*) - count(DISTINCT {key}) FROM ({views[table]})")
                rows.append(("one version at a time", table, count, "error", "Two versions are valid at once."))
        return pd.DataFrame(rows, columns=["check", "table", "rows", "severity", "meaning"])

    def _state(self):
        try:
            state = json.loads((self.path / STATE).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(
                f"{self.path} is no warehouse; crmlab warehouse init {self.path} makes one of a new folder."
            ) from error
        except ValueError:
            state = None
        if not isinstance(state, dict) or state.get("format") != 1 or not isinstance(state.get("loads"), list):
            raise DataError(f"{self.path / STATE} is damaged, or of another version: copy it back from a backup.")
        return state

    def _folder(self, load):
        return self.path / f"load-{load['load']:06d}"

    @contextlib.contextmanager
    def _damage_in_words(self):
        try:
            yield
        except duckdb.Error as error:
            said = str(error).splitlines()[0]
            raise DataError(
                f"{self.path}: {said}\nNothing was changed; crmlab warehouse check says whether a file is damaged."
            ) from error

    @contextlib.contextmanager
    def _locked(self):
        # The engine's own file lock: it ends with the process, however that ends. Within the process a second
        # connection is refused because its configuration differs.
        file = self.path / "lock.duckdb"
        try:
            lock = duckdb.connect(str(file), config={"custom_user_agent": uuid.uuid4().hex})
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            if not re.search("lock on|different configuration", str(error)):
                raise DataError(f"{file} cannot be written: {str(error).splitlines()[0]}") from None
            raise DataError(f"Another load into {self.path} is under way; try again when it has ended.") from None
        try:
            yield
        finally:
            lock.close()

    def _sweep(self, state):
        """Remove what a killed load left."""
        listed = {self._folder(load) for load in state["loads"]}
        for folder in self.path.glob("load-*"):
            if re.fullmatch(r"load-\d{6,}", folder.name) and folder not in listed:
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()

    def _fits(self, state, table, columns):
        mine = {name.lower(): (name, kind) for name, kind in columns.items()}
        for load in state["loads"]:
            for name, kind in load["columns"].items() if load["table"] == table else ():
                own, now = mine.get(name.lower(), (name, kind))
                if now != kind:
                    raise DataError(
                        f"Column {own!r} is {now} here and was {kind} in load {load['load']}; "
                        "convert it in the source, or name it differently."
                    )

    def _known(self, state, line, key):
        """The number of the load that had the same content, when nothing was said against it since."""
        known = [load for load in state["loads"] if load["sha256"] == line["sha256"]]
        if not known:
            return None
        number = known[-1]["load"]
        later = [
            load
            for load in state["loads"]
            if key and load["load"] > number and all(load[c] == line[c] for c in ("table", "valid_from"))
        ]
        if later:
            ids = [f"SELECT {key} FROM ({' UNION ALL '.join(map(self._kept, part))})" for part in (known[-1:], later)]
            if _number(f"SELECT count(*) FROM ({ids[0]}) SEMI JOIN ({ids[1]}) USING ({key})"):
                return None  # corrected on the same day, and now corrected back
        return number

    def _kept(self, load, columns="*"):
        """SQL of the rows that a load kept."""
        file = quoted(glob.escape(str(self._file(load))))
        # A path such as year=2024/shop would else make a column.
        return f"SELECT {columns} FROM read_parquet({file}, hive_partitioning=false)"

    def _file(self, load, name="kept"):
        return (self._folder(load) / f"{name}.parquet").resolve()

    def _stored(self, state, table, until=None):
        """All rows of a table with `load_` and, where it has a key, `valid_from`; None when nothing was loaded."""
        loads = [load for load in state["loads"] if load["table"] == table]
        parts = []
        for load in loads:
            day = f", DATE {quoted(load['valid_from'])} AS valid_from" if load["valid_from"] else ""
            # What became true later is not known yet; one load without rows keeps the columns.
            none = " WHERE false" if until and (load["valid_from"] or "") > until.isoformat() else ""
            parts.append(self._kept(load, f"*, {load['load']} AS load_{day}") + none)
        return " UNION ALL BY NAME ".join(parts) if parts else None

    def _new(self, state, table, kept):
        """The rows that no earlier load has as often, and the others."""
        stored, day = self._stored(state, table), DAY[table]
        ends = kept.aggregate(first=kept[day].min(), last=kept[day].max()).to_pyarrow().to_pylist()[0]
        if stored is None or ends["first"] is None:
            return kept, kept.limit(0)
        # The contract's columns say which event it is, all others describe it (and are spelled now so, now so); a
        # column that only one of the two has is empty in the other.
        theirs = _columns(state, table)
        columns = [c for c in CONTRACTS[table].columns if c in (*kept.columns, *theirs)]
        # The same event has the same day, so that a day's file is compared with that day only.
        known = keep(
            f"SELECT {', '.join(c for c in columns if c in theirs)} FROM ({stored}) "
            f"WHERE {day} BETWEEN TIMESTAMP '{ends['first']}' AND TIMESTAMP '{ends['last']}'"
        )
        kinds = dict(known.schema().items()) | dict(kept.schema().items())

        def with_all(t):
            return t.mutate(**{c: ibis.null(kinds[c]) for c in columns if c not in t.columns})

        place = ibis.row_number().over(ibis.window(group_by=columns))
        mine = keep(sql(with_all(kept).mutate(place_=place)))
        counts = with_all(known).group_by(columns).aggregate(n_=lambda t: t.count())
        joined = mine.left_join(counts, [mine[c].identical_to(counts[c]) for c in columns])
        joined = joined.select(*(mine[c] for c in mine.columns), n_=counts.n_.fill_null(0))
        new = joined.filter(joined.place_ >= joined.n_).select(*kept.columns)
        again = joined.filter(joined.place_ < joined.n_).select(*kept.columns)
        return new, again

    def _views(self, state, as_of=None):
        """SQL of every table that was loaded, of the dimensions and of the facts."""
        day = None if as_of is None else day_of("as_of", as_of)
        views, versions = {}, {}
        for table, contract in CONTRACTS.items():
            stored, key = self._stored(state, table, day), contract.metadata["key"]
            if stored is None:
                continue
            if key:
                versions[table] = _versions(stored, key, _columns(state, table))
                views[table] = f"SELECT * FROM ({versions[table]}) WHERE valid_to IS NULL"
            else:
                until = f" WHERE {DAY[table]} < DATE '{day}' + INTERVAL 1 DAY" if day else ""
                views[table] = f"SELECT * FROM ({stored}){until}"
        if "customers" in views:
            views["dim_customer"] = (
                f"SELECT md5(customer_id || '|' || valid_from) AS customer_key, * FROM ({versions['customers']})"
            )
        if "orders" in views:
            orders = views["orders"]
            if "product_id" in _columns(state, "orders"):
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


def _columns(state, table):
    """Names of the columns of a table, of all loads together."""
    names = {}
    for load in state["loads"]:
        if load["table"] == table:
            names |= {name.lower(): name for name in load["columns"] if name.lower() not in names}
    return list(names.values())


def _free_names(columns):
    """New names for columns that are called like what the views make."""
    names = {}
    for name in columns:
        if name.lower() in MADE:
            names[free_name(name, [*columns, *MADE, *names])] = name
    return names


def _versions(stored, key, columns):
    """One row a version: what was said, collapsed while it stays the same, until something else is said."""
    said = [identifier(c) for c in columns if c != key]
    content = f"hash({', '.join(said)})" if said else "0"
    # Of two loads for the same day the later one counts.
    last = f"QUALIFY row_number() OVER (PARTITION BY {key}, valid_from ORDER BY load_ DESC) = 1"
    days = f"SELECT *, {content} AS said_ FROM ({stored}) {last}"
    order = f"OVER (PARTITION BY {key} ORDER BY valid_from)"
    changes = f"SELECT * FROM ({days}) QUALIFY lag(said_) {order} IS DISTINCT FROM said_"
    return f"SELECT * EXCLUDE (said_), lead(valid_from) {order} AS valid_to FROM ({changes})"


def _content(found, table, day):
    """What makes two loads the same: the rows that were read, as what, and from when on they are true."""
    digest = hashlib.sha256(json.dumps([table, str(day)]).encode())
    for part in (found.kept, _as_text(found.set_aside)):
        asked = f"SELECT count(*), sum(hash(t)::HUGEINT) FROM ({sql(part)}) t"
        digest.update(repr((part.columns, connect().con.cursor().execute(asked).fetchone())).encode())
    return digest.hexdigest()


def _as_text(table):
    return table.select(**{name: table[name].cast("string") for name in table.columns})


def _write(table, file):
    """Write a table and return its number of rows."""
    connect().con.cursor().execute(f"COPY ({sql(table)}) TO {quoted(file)} (FORMAT parquet, COMPRESSION zstd)")
    with file.open("rb+") as written:
        os.fsync(written.fileno())
    return _number(f"SELECT count(*) FROM read_parquet({quoted(glob.escape(str(file)))})")


def _digest(file):
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _replace(file, state):
    """Put the new state in the place of the old one in one step."""

    def write(beside):
        with beside.open("w", encoding="utf-8") as sink:
            json.dump(state, sink, indent=1, ensure_ascii=False)
            sink.flush()
            os.fsync(sink.fileno())

    whole(write, file)
