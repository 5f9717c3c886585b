"""Time the life-cycle tables beside hand-written queries on a log in Parquet: `python -m tests.benchmarks.lifecycle`.

Everyone starts from the file, in a process of his own that has imported what it needs; the better of two runs counts.
Memory is the peak of the whole process. Ratios are quoted, not seconds: the machine is shared and noisy.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from tests.benchmarks.__main__ import simulate_log

MONTHS = 24
FROM = pd.Timestamp("2023-01-01")
DUCKDB_MONTH = "((year(date) - 2023) * 12 + month(date) - 1)"
ACTIVE = f"WITH a AS (SELECT DISTINCT customer_id, {DUCKDB_MONTH} AS at FROM '{{file}}')"
DUCKDB = {
    "cohort triangle": ACTIVE
    + """, f AS (SELECT customer_id, min(at) AS born FROM a GROUP BY ALL)
    SELECT born, at - born, count(*) FROM a JOIN f USING (customer_id) GROUP BY ALL""",
    "states": ACTIVE
    + """, s AS (SELECT at, lag(at) OVER (PARTITION BY customer_id ORDER BY at) AS before FROM a)
    SELECT at, count(*), count(*) FILTER (before IS NULL), count(*) FILTER (before = at - 1) FROM s GROUP BY at""",
    "transitions": ACTIVE
    + """, s AS (SELECT at, lag(at) OVER w AS before, lead(at) OVER w AS after FROM a
                 WINDOW w AS (PARTITION BY customer_id ORDER BY at))
    SELECT CASE WHEN before IS NULL THEN 0 WHEN before = at - 1 THEN 1 ELSE 2 END,
           count(*) FILTER (after = at + 1), count(*) FILTER (after > at + 1), count(*) FILTER (at < 23),
           sum(coalesce(after - at - 2, 22 - at)) FILTER (at < 23 AND after IS DISTINCT FROM at + 1)
    FROM s GROUP BY 1 ORDER BY 1""",
    "RFM scores": """WITH c AS (SELECT customer_id, max(date) AS last, count(DISTINCT date) AS f, sum(amount) AS m
                               FROM '{file}' GROUP BY customer_id),
    q AS (SELECT quantile_disc(last, [.2, .4, .6, .8]) AS lq, quantile_disc(f, [.2, .4, .6, .8]) AS fq,
                 quantile_disc(m, [.2, .4, .6, .8]) AS mq FROM c)
    SELECT customer_id, last, f, m,
           1 + (last > lq[1])::INT + (last > lq[2])::INT + (last > lq[3])::INT + (last > lq[4])::INT AS rs,
           1 + (f > fq[1])::INT + (f > fq[2])::INT + (f > fq[3])::INT + (f > fq[4])::INT AS fs,
           1 + (m > mq[1])::INT + (m > mq[2])::INT + (m > mq[3])::INT + (m > mq[4])::INT AS ms FROM c, q""",
}
TASKS = list(DUCKDB)


def crmlab_(task, file):
    from crmlab import lifecycle

    if task == "cohort triangle":
        return np.nan_to_num(lifecycle.cohorts(file, "M").to_numpy())
    if task == "states":
        return lifecycle.states(file, "M")[["active", "new", "returning"]].to_numpy()
    if task == "transitions":
        return lifecycle.transitions(file, "M", left_truncated=False)["count"].to_numpy()
    table = lifecycle.rfm(file).to_pyarrow()
    return scores(*(table[name].to_numpy() for name in ("r", "f", "m")))


def duckdb_(task, file):
    import duckdb

    columns = duckdb.sql(DUCKDB[task].format(file=file)).fetchnumpy()
    columns = [np.ma.filled(column, 0).astype(np.int64) for column in columns.values()]
    if task == "cohort triangle":
        return square(*columns)
    if task == "states":
        return np.stack(columns[1:], axis=1)[np.argsort(columns[0])]
    return moves(*columns[1:]) if task == "transitions" else scores(*columns[-3:])


def polars_(task, file):
    import polars as pl

    scan, at = pl.scan_parquet(file), pl.col("at")
    if task == "RFM scores":
        each = scan.group_by("customer_id").agg(
            r=pl.col("date").max(), f=pl.col("date").n_unique(), m=pl.col("amount").sum()
        )
        ranks = [(1 + (pl.col(c).rank("min").cast(pl.Int64) - 1) * 5 // pl.len()).alias(f"{c}_score") for c in "rfm"]
        table = each.with_columns(ranks).collect(engine="streaming")
        return scores(*(table[f"{c}_score"].to_numpy() for c in "rfm"))
    month = ((pl.col("date").dt.year() - 2023) * 12 + pl.col("date").dt.month() - 1).cast(pl.Int16)
    each = scan.select("customer_id", at=month).group_by("customer_id").agg(at.unique().sort())
    if task == "cohort triangle":
        cells = each.with_columns(born=at.list.first()).explode("at").group_by("born", "at").len()
        table = cells.collect(engine="streaming")
        return square(table["born"].to_numpy(), (table["at"] - table["born"]).to_numpy(), table["len"].to_numpy())
    before = at.list.eval(pl.element().shift(1)).alias("before")
    after = at.list.eval(pl.element().shift(-1)).alias("after")
    rows = each.with_columns(before, after).explode("at", "before", "after")
    before, after = pl.col("before"), pl.col("after")
    if task == "states":
        counts = [pl.len(), before.is_null().sum().alias("new"), (before == at - 1).sum().alias("returning")]
        table = rows.group_by("at").agg(counts).sort("at").collect(engine="streaming")
        return table.drop("at").to_numpy()
    state = pl.when(before.is_null()).then(0).when(before == at - 1).then(1).otherwise(2)
    silent = pl.when((at < 23) & (after.is_null() | (after != at + 1))).then(pl.coalesce(after - at - 2, 22 - at))
    counts = [(after == at + 1).sum().alias("on"), (after > at + 1).sum().alias("back"),
              (at < 23).sum().alias("of"), silent.cast(pl.Int64).sum().alias("silent")]  # fmt: skip
    table = rows.group_by(state.alias("state")).agg(counts).sort("state").collect(engine="streaming")
    return moves(*(table[name].to_numpy() for name in ("on", "back", "of", "silent")))


def pandas_(task, file):
    log = pd.read_parquet(file)
    if task == "RFM scores":
        days = log.drop_duplicates(["customer_id", "date"])["customer_id"].value_counts()
        each = log.groupby("customer_id").agg(r=("date", "max"), m=("amount", "sum")).assign(f=days)
        return scores(*((each[c].rank(method="min").sub(1) * 5 // len(each) + 1).to_numpy() for c in "rfm"))
    at = (log["date"].dt.year - 2023) * 12 + log["date"].dt.month - 1
    a = pd.DataFrame({"customer_id": log["customer_id"], "at": at}).drop_duplicates()
    if task == "cohort triangle":
        born = a.groupby("customer_id")["at"].transform("min")
        cells = a.groupby([born.rename("born"), "at"]).size().reset_index(name="n")
        return square(cells["born"], cells["at"] - cells["born"], cells["n"])
    a = a.sort_values(["customer_id", "at"])
    before, after = (a.groupby("customer_id")["at"].shift(step) for step in (1, -1))
    if task == "states":
        flags = {"active": 1, "new": before.isna(), "returning": before == a["at"] - 1}
        return a.assign(**flags).groupby("at")[list(flags)].sum().to_numpy()
    state = np.select([before.isna(), before == a["at"] - 1], [0, 1], 2)
    leaves = (a["at"] < 23) & (after != a["at"] + 1)
    flags = {"on": after == a["at"] + 1, "back": after > a["at"] + 1, "of": a["at"] < 23,
             "silent": (after - a["at"] - 2).fillna(22 - a["at"]).where(leaves, 0)}  # fmt: skip
    return moves(*a.assign(**flags).groupby(state)[list(flags)].sum().to_numpy().T)


ENGINES = {"crmlab": crmlab_, "duckdb": duckdb_, "polars": polars_, "pandas": pandas_}


def square(born, age, n):
    """The triangle of cells given one by one."""
    triangle = np.zeros((MONTHS, MONTHS))
    np.add.at(triangle, (np.asarray(born), np.asarray(age)), np.asarray(n))
    return triangle


def scores(*columns):
    """How many customers have each of the 125 scores."""
    code = sum(np.asarray(column).astype(np.int64) * 10**i for i, column in enumerate(columns))
    return np.bincount(code, minlength=556)


def moves(on, back, of, silent):
    """The eight counts of moves, as `crmlab.lifecycle.transitions` orders them, from those by state of departure."""
    new, returning, resurrected = ((of[i] - on[i], on[i]) for i in range(3))
    return np.array([silent.sum(), back.sum(), *new, *resurrected, *returning])


@click.command(context_settings={"show_default": True})
@click.option("--rows", default=10_000_000, help="Rows of the purchase log.")
@click.option("--engines", default=",".join(ENGINES), help="Whom to time.")
@click.option("--child", nargs=3, hidden=True)
def main(rows, engines, child):
    """Print one line a task and engine: seconds, crmlab's share of them, megabytes, and whether the answers agree."""
    if child:
        engine, task, file = child
        best = np.inf
        for _ in range(2):
            start = time.perf_counter()
            answer = ENGINES[engine](task, file)
            best = min(best, time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        click.echo(json.dumps([best, peak, np.asarray(answer, dtype=float).ravel().tolist()]))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/log.parquet"
        log = simulate_log(rows)
        log.assign(date=log["date"].dt.date).to_parquet(file, index=False)
        click.echo(f"{len(log):,} rows of {log['customer_id'].nunique():,} customers in Parquet")
        click.echo(f"{'':18}{'':8}{'s':>8}{'crmlab takes':>15}{'MB':>8}   answer")
        del log
        for task in TASKS:
            ours = None
            for engine in engines.split(","):
                command = [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    "tests.benchmarks.lifecycle",
                    "--child",
                    engine,
                    task,
                    file,
                ]
                done = subprocess.run(
                    command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
                    click.echo(f"{task:18}{engine:8} failed: {reason}")
                    continue
                seconds, peak, answer = json.loads(done.stdout.splitlines()[-1])
                ours = ours or (seconds, answer)
                same = "same" if np.allclose(answer, ours[1], rtol=1e-9) else "DIFFERENT"
                click.echo(f"{task:18}{engine:8}{seconds:8.2f}{ours[0] / seconds:14.2f}x{peak:8.0f}   {same}")


if __name__ == "__main__":
    main()
