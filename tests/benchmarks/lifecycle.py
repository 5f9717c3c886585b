"""Time the life-cycle tables beside hand-written queries on a log in Parquet: `python -m tests.benchmarks.lifecycle`.

Everyone starts from the file and uses every core, in a process of his own that has worked on a small file before: what
is imported or compiled once does not count. The engines take turns, and the median of the rounds counts. Memory is the
peak of the whole process. The queries are the fastest of several forms, and know the calendar beforehand; crmlab finds
the first and the last day and refuses rows without customer, date or amount, and its transitions have intervals.
Ratios are quoted, not seconds: the machine is shared and noisy. Where others work on it, that of the processor time is
the steadier one.
"""

import json
import resource
import statistics
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
LAST = "2024-12-31"
TASKS = ("cohort triangle", "states", "transitions", "RFM scores")
MONTH = "((year(date) - 2023) * 12 + month(date) - 1)"
HISTORIES = f"WITH h AS (SELECT bit_or(1::BIGINT << {MONTH}) AS w FROM '{{file}}' GROUP BY customer_id)"
SCORES = ", ".join(
    f"(1 + {' + '.join(f'({v} > {v}q[{i}])::INT' for i in range(1, 5))})::TINYINT AS {s}"
    for v, s in {"last": "r", "frequency": "f", "monetary": "m"}.items()
)
MOVES = ("dd", "db", "nd", "nr", "bd", "br", "rd", "rr")  # dormant, back, new, returning
DUCKDB = {
    "cohort triangle": f"""{HISTORIES} SELECT bit_count((w & (-w)) - 1),
        {", ".join(f"count(*) FILTER (w & {1 << i} > 0)" for i in range(MONTHS))} FROM h GROUP BY 1""",
    "states": f"""{HISTORIES}, p AS (SELECT w, bit_count((w & (-w)) - 1) AS born, unnest(range({MONTHS})) AS at_ FROM h)
        SELECT at_, count(*), count(*) FILTER (born = at_), count(*) FILTER ((w >> (at_ - 1)) & 1 = 1)
        FROM p WHERE (w >> at_) & 1 = 1 GROUP BY at_""",
    "transitions": f"""{HISTORIES}, s AS (SELECT w & (-w) AS n, w & (w << 1) AS r, w & ~(w << 1) & ~(w & (-w)) AS b,
            {2**MONTHS - 1} & ~w & ~((w & (-w)) - 1) AS d FROM h)
        SELECT {", ".join(f"sum(bit_count({a} & ({b} >> 1)))" for a, b in MOVES)} FROM s""",
    "RFM scores": f"""WITH d AS (SELECT customer_id, date, sum(amount) AS paid FROM '{{file}}' GROUP BY ALL),
        c AS MATERIALIZED (SELECT customer_id, max(date) AS last, count(*) AS frequency, round(sum(paid), 6) AS monetary
              FROM d GROUP BY customer_id),
        q AS (SELECT {", ".join(f"quantile_disc({v}, [.2, .4, .6, .8]) AS {v}q" for v in (
            "last", "frequency", "monetary"))} FROM c)
        SELECT customer_id, DATE '{LAST}' - last AS recency, frequency, monetary, {SCORES},
               r::VARCHAR || f::VARCHAR || m::VARCHAR AS rfm FROM c, q""",
}  # fmt: skip


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

    table = duckdb.sql(DUCKDB[task].format(file=file)).to_arrow_table()
    if task == "RFM scores":
        return scores(*(table[name].to_numpy() for name in ("r", "f", "m")))
    columns = [column.to_numpy().astype(int) for column in table.columns]
    if task == "transitions":
        return np.concatenate(columns)
    rows = np.stack(columns, axis=1)
    rows = rows[rows[:, 0].argsort()]
    return rows[:, 1:] if task == "states" else by_age(rows[:, 0], rows[:, 1:])


def polars_(task, file):
    import polars as pl

    scan, w = pl.scan_parquet(file), pl.col("w")
    if task == "RFM scores":
        each = {"last": pl.col("date").max(), "frequency": pl.col("date").n_unique(), "monetary": pl.sum("amount")}
        table = scan.group_by("customer_id").agg(**each).collect(engine="streaming")
        table = table.with_columns(pl.col("monetary").round(6))
        places = [-(-i * len(table) // 5) - 1 for i in range(1, 5)]
        cuts = {name: table[name].sort().gather(places) for name in each}
        found = [pl.sum_horizontal(pl.col(c) > cut for cut in cuts[c]).cast(pl.Int8).add(1).alias(c[0]) for c in cuts]
        recency = (pl.lit(LAST).str.to_date() - pl.col("last")).dt.total_days()
        table = table.with_columns(*found, recency=recency).rename({"l": "r"}).drop("last")
        table = table.with_columns(rfm=pl.concat_str("r", "f", "m"))
        return scores(*(table[name].to_numpy() for name in ("r", "f", "m")))
    month = (pl.col("date").dt.year() - 2023) * 12 + pl.col("date").dt.month() - 1
    bit = month.cast(pl.Int8).replace_strict(range(MONTHS), [1 << i for i in range(MONTHS)], return_dtype=pl.Int64)
    h = scan.select("customer_id", w=bit).group_by("customer_id").agg(w.bitwise_or())
    before = [(w & (3 << i - 1) == 3 << i - 1) if i else pl.lit(False) for i in range(MONTHS)]
    on = [w & (1 << i) > 0 for i in range(MONTHS)]
    if task == "transitions":
        twice, first = w & (w * 2), w & -w
        state = {"new": first, "returning": twice, "resurrected": w - twice - first,
                 "dormant": (2**MONTHS - 1) - w - (first - 1)}  # fmt: skip
        table = h.select(**state).select(
            (pl.col(a) & pl.col(b) // 2).bitwise_count_ones().cast(pl.Int64).sum().alias(f"{a} {b}")
            for a in sorted(state)
            for b in ("dormant", "resurrected" if a == "dormant" else "returning")
        )
        return table.collect(engine="streaming").to_numpy()
    counts = [each.sum().alias(f"{name}{i}") for name, row in {"on": on, "before": before}.items()
              for i, each in enumerate(row) if name == "on" or task == "states"]  # fmt: skip
    table = h.group_by(born=w & -w).agg(counts).sort("born").collect(engine="streaming").to_numpy()
    born, active = np.log2(table[:, 0]).astype(int), table[:, 1 : MONTHS + 1]
    if task == "cohort triangle":
        return by_age(born, active)
    new = np.zeros(MONTHS)
    new[born] = active[range(len(born)), born]
    return np.stack([active.sum(axis=0), new, table[:, MONTHS + 1 :].sum(axis=0)], axis=1)


def pandas_(task, file):
    import pyarrow.parquet

    # pandas.read_parquet makes Python objects of days, which costs as much as all the rest.
    log = pyarrow.parquet.read_table(file).to_pandas(date_as_object=False)
    if task == "RFM scores":
        days = log.drop_duplicates(["customer_id", "date"])["customer_id"].value_counts()
        each = log.groupby("customer_id").agg(last=("date", "max"), monetary=("amount", "sum")).round(6)
        each = each.assign(frequency=days, recency=(pd.Timestamp(LAST) - each["last"]).dt.days)
        for name in ("last", "frequency", "monetary"):
            each[name[0]] = each[name].rank(method="min").astype(int).sub(1) * 5 // len(each) + 1
        each["rfm"] = (each["l"] * 100 + each["f"] * 10 + each["m"]).astype(str)
        return scores(*(each[name].to_numpy() for name in ("l", "f", "m")))
    at = (log["date"].dt.year - 2023) * 12 + log["date"].dt.month - 1
    a = pd.DataFrame({"customer_id": log["customer_id"], "at": at}).drop_duplicates()
    if task == "cohort triangle":
        born = a.groupby("customer_id")["at"].transform("min")
        cells = a.groupby([born.rename("born"), a["at"] - born]).size().unstack(fill_value=0)
        return cells.reindex(index=range(MONTHS), columns=range(MONTHS), fill_value=0).to_numpy()
    a = a.sort_values(["customer_id", "at"])
    before, after = (a.groupby("customer_id")["at"].shift(step) for step in (1, -1))
    if task == "states":
        flags = {"active": 1, "new": before.isna(), "returning": before == a["at"] - 1}
        return a.assign(**flags).groupby("at")[list(flags)].sum().to_numpy()
    state = np.select([before.isna(), before == a["at"] - 1], [0, 1], 2)
    leaves = (a["at"] < MONTHS - 1) & (after != a["at"] + 1)
    flags = {"on": after == a["at"] + 1, "back": after > a["at"] + 1, "of": a["at"] < MONTHS - 1,
             "silent": (after - a["at"] - 2).fillna(MONTHS - 2 - a["at"]).where(leaves, 0)}  # fmt: skip
    on, back, of, silent = a.assign(**flags).groupby(state)[list(flags)].sum().to_numpy().T
    new, returning, resurrected = ((of[i] - on[i], on[i]) for i in range(3))
    return np.array([silent.sum(), back.sum(), *new, *resurrected, *returning])


ENGINES = {"crmlab": crmlab_, "duckdb": duckdb_, "polars": polars_, "pandas": pandas_}


def by_age(born, active):
    """The triangle by age, of counts by month, one row a cohort."""
    triangle = np.zeros((MONTHS, MONTHS))
    for month, row in zip(born, active, strict=True):
        triangle[month, : MONTHS - month] = row[month:]
    return triangle


def scores(*columns):
    """How many customers have each of the 125 scores."""
    code = sum(np.asarray(column).astype(np.int64) * 10**i for i, column in enumerate(columns))
    return np.bincount(code, minlength=556)


def peak():
    """Megabytes of this process at its peak, which `ru_maxrss` mixes with that of the process which started it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(engine, task, small, file):
    """Print seconds, processor seconds, megabytes and answer of a task, in a process of its own."""
    ENGINES[engine](task, small)
    start, used = time.perf_counter(), time.process_time()
    answer = ENGINES[engine](task, file)
    seconds = time.perf_counter() - start, time.process_time() - used
    click.echo(json.dumps([*seconds, peak(), np.asarray(answer, dtype=float).ravel().tolist()]))


def measured(engine, task, *files):
    """What `timed` prints in another process, or why it failed."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.lifecycle", "--child", engine, task, *files]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


@click.command(context_settings={"show_default": True})
@click.option("--rows", default=10_000_000, help="Rows of the purchase log.")
@click.option("--engines", default=",".join(ENGINES), help="Whom to time; the first one is compared with the others.")
@click.option("--tasks", default=",".join(TASKS), help="What to time.")
@click.option("--rounds", default=3, help="How often; the median counts.")
@click.option("--child", nargs=4, hidden=True)
def main(rows, engines, tasks, rounds, child):
    """Print a line a task and engine: seconds, ratios of wall and processor time, megabytes, and the same answer?"""
    if child:
        return timed(*child)
    with tempfile.TemporaryDirectory() as folder:
        small, file = f"{folder}/small.parquet", f"{folder}/log.parquet"
        log = simulate_log(rows)
        log = log.assign(date=log["date"].dt.date)
        log.head(5000).to_parquet(small, index=False)
        log.to_parquet(file, index=False)
        click.echo(f"{len(log):,} rows of {log['customer_id'].nunique():,} customers in Parquet; {rounds} rounds")
        click.echo(f"{'crmlab takes of':25}{'wall s':>8}{'ratio':>8}{'CPU s':>8}{'ratio':>8}{'MB':>8}   answer")
        del log
        engines = engines.split(",")
        for task in tasks.split(","):
            found = {engine: [] for engine in engines}
            for _round in range(rounds):
                for engine in engines:
                    found[engine].append(measured(engine, task, small, file))
            show(task, found)


def show(task, found):
    """Print the lines of a task."""
    ours = next(iter(found.values()))
    for engine, runs in found.items():
        failed = [run for run in (*ours, *runs) if isinstance(run, str)]
        if failed:
            click.echo(f"{task:17}{engine:8} failed: {failed[0]}")
            continue
        # The runs of a round came one after the other, so that noise touches both sides of their ratio.
        ratios = [[mine[i] / theirs[i] for mine, theirs in zip(ours, runs, strict=True)] for i in range(2)]
        wall, cpu, ratio_wall, ratio_cpu = map(
            statistics.median, ([run[0] for run in runs], [run[1] for run in runs], *ratios)
        )
        same = all(np.allclose(run[3], ours[0][3], rtol=1e-9) for run in runs)
        click.echo(
            f"{task:17}{engine:8}{wall:8.2f}{ratio_wall:7.2f}x{cpu:8.2f}{ratio_cpu:7.2f}x"
            f"{max(run[2] for run in runs):8.0f}   {'same' if same else 'DIFFERENT'}"
        )


if __name__ == "__main__":
    main()
