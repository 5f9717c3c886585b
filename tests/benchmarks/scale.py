"""One machine at scale: `make bench-scale`, or `python -m tests.benchmarks.scale --help`.

Simulated logs of 10⁶, 10⁷ and 10⁸ rows in Parquet; the job of `scale_job.py` (log, states, fit, scores) on each, beside
the bare query that no such job can do without (customers with count, first and last moment), which runs before and
after it; then the summary with amounts beside hand-written queries for the same answer. With --spark the same job goes
to a cluster of two executors on this machine, and its answers are compared. Everyone runs in a process of his own.
Ratios are quoted, not seconds: the machine is shared and noisy; that of the processor time is the steadier one.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
import duckdb
import psutil

BARE = "SELECT customer_id, count(*) AS n, min(date) AS first, max(date) AS last FROM '{log}/*.parquet' GROUP BY 1"
# Several forms of the same answer; the fastest counts. Days of purchase, not rows: two purchases of a day are one.
ANSWER = """SELECT customer_id, n - 1 AS frequency, (last - first) / 7 AS recency, (max(last) OVER () - first) / 7 AS T,
    (paid - paid_first) / nullif(n - 1, 0) AS monetary_value FROM"""
QUERIES = {
    "days, then customers": f"""{ANSWER} (SELECT customer_id, count(*) AS n, min(day) AS first, max(day) AS last,
            sum(amount) AS paid, arg_min(amount, day) AS paid_first
        FROM (SELECT customer_id, date::DATE AS day, sum(amount) AS amount FROM '{{log}}/*.parquet' GROUP BY ALL)
        GROUP BY customer_id)""",
    "lists of days": f"""{ANSWER} (SELECT customer_id, list_unique(days) AS n, first, last, paid,
            list_sum(list_transform(list_filter(list_zip(days, amounts), lambda x: x[1] = first), lambda x: x[2]))
                AS paid_first
        FROM (SELECT customer_id, list(date::DATE) AS days, list(amount) AS amounts, min(date::DATE) AS first,
                  max(date::DATE) AS last, sum(amount) AS paid
              FROM '{{log}}/*.parquet' GROUP BY customer_id))""",
    "distinct days, joined": f"""{ANSWER} (SELECT c.customer_id, n, first, last, paid, paid_first
        FROM (SELECT customer_id, count(DISTINCT date::DATE) AS n, min(date::DATE) AS first, max(date::DATE) AS last,
                  sum(amount) AS paid FROM '{{log}}/*.parquet' GROUP BY customer_id) c
        JOIN (SELECT customer_id, sum(amount) AS paid_first
              FROM (SELECT customer_id, amount, date::DATE AS day, min(date::DATE) OVER (PARTITION BY customer_id) AS d
                    FROM '{{log}}/*.parquet') WHERE day = d GROUP BY customer_id) f USING (customer_id))""",
}  # fmt: skip
SIZES = (100_000, 1_000_000, 10_000_000)
JOB = Path(__file__).with_name("scale_job.py")


def usage(who=resource.RUSAGE_SELF):
    found = resource.getrusage(who)
    return time.perf_counter(), found.ru_utime + found.ru_stime, found.ru_maxrss / 1024


def child(*arguments):
    """What a task of this module printed as JSON, run in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def timed(work):
    before = usage()
    work()
    after = usage()
    return after[0] - before[0], after[1] - before[1], after[2]


def generate(log, customers):
    """A log of rather more than ten purchases a customer, one file a month."""
    from crmlab.data import simulate_log

    return timed(lambda: simulate_log(log, int(customers), seed=1, alpha=3.0))


def bare(log):
    """The bare query, its answer kept in the engine as the job keeps the summary."""
    duckdb.sql("SELECT 1")
    return timed(lambda: duckdb.sql(f"CREATE TABLE answer AS {BARE.format(log=log)}"))


def summarized(log, form, target=""):
    """The summary of a log by crmlab or by a query, after one of a small log: what is imported once does not count."""
    import ibis

    from crmlab import clv, data

    def ours():
        return clv.summarize(log, unit="W").cache()

    def theirs():
        duckdb.sql(f"CREATE OR REPLACE TABLE answer AS {QUERIES[form].format(log=log)}")

    clv.summarize("cdnow_sample").cache()
    taken = timed(ours if form == "crmlab" else theirs)
    if target:
        table = ours() if form == "crmlab" else ibis.memtable(duckdb.table("answer").to_arrow_table())
        columns = ["customer_id", "frequency", "recency", "T", "monetary_value"]
        data.write_parquet(table.select(columns), target)
    return taken


TASKS = {"generate": generate, "bare": bare, "summarized": summarized}


def difference(ours, theirs, columns):
    """Largest relative difference of two Parquet tables, column by column; None where they have other customers."""
    apart = ", ".join(
        f"max(CASE WHEN (a.{c} IS NULL) <> (b.{c} IS NULL) THEN 1e9 "
        f"ELSE coalesce(abs(a.{c} - b.{c}) / greatest(abs(b.{c}), 1e-9), 0) END)"
        for c in columns
    )
    query = f"SELECT count(*) - count(a.customer_id) + count(*) - count(b.customer_id), {apart} FROM "
    odd, *found = duckdb.sql(f"{query} '{ours}' a FULL JOIN '{theirs}' b USING (customer_id)").fetchone()
    return None if odd else max(found)


def in_words(difference):
    return "OTHER CUSTOMERS" if difference is None else f"{difference:.0e}"


def tree_peak(process, stop):
    """Peak of the memory of a process and all that it started, in MB, read twice a second."""
    peak = 0
    while not stop.wait(0.5):
        total = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                total += one.memory_info().rss
            except psutil.Error:
                continue
        peak = max(peak, total)
    process.peak = peak / 2**20


def on_spark(log, folder):
    """The job on a cluster of two executors with 1 GB each on this machine, compared with the embedded engine's."""
    for name in ("scores.spark", "summary.spark"):
        shutil.rmtree(folder / name, ignore_errors=True)
    here = Path(sys.executable).parent
    # spark-submit takes the python that it finds first.
    environment = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    settings = ["--master", "local-cluster[2,1,1024]", "--driver-memory", "2g", "--conf"]
    settings += ["spark.sql.shuffle.partitions=8", JOB, log, folder / "scores.spark", "--engine", "spark"]
    settings += ["--summary", folder / "summary.spark"]
    start, stop = time.perf_counter(), threading.Event()
    with (folder / "spark.log").open("w") as messages:
        job = subprocess.Popen([here / "spark-submit", *settings], stdout=subprocess.PIPE, stderr=messages,
                               text=True, env=environment)  # fmt: skip
        watched = psutil.Process(job.pid)
        watcher = threading.Thread(target=tree_peak, args=(watched, stop))
        watcher.start()
        printed = job.communicate()[0]
        stop.set()
        watcher.join()
    if job.returncode:
        raise click.ClickException(f"spark-submit failed; {folder / 'spark.log'} says why.")
    return json.loads(printed.splitlines()[-1]) | {"seconds": time.perf_counter() - start, "peak": watched.peak}


def run_job(log, folder, *options):
    command = [sys.executable, JOB, log, folder / "scores.parquet", *options]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


@click.group(invoke_without_command=True, context_settings={"show_default": True})
@click.option("--folder", default=Path(tempfile.gettempdir()) / "crmlab-scale", type=Path, help="Logs and scores.")
@click.option(
    "--customers", multiple=True, type=int, default=[100_000, 1_000_000, 10_000_000], help="Sizes, ascending."
)
@click.option("--rounds", default=5, help="Rounds of the summary beside the queries (0: none).")
@click.option("--rows-of", default=1_000_000, help="Customers of the log of the summary and of Spark.")
@click.option("--spark", is_flag=True, help="Submit the job to Spark too.")
@click.pass_context
def main(context, folder, customers, rounds, rows_of, spark):
    """Print the stages of the job at each size, their growth, and its ratio to the bare query."""
    if context.invoked_subcommand:
        return
    folder.mkdir(parents=True, exist_ok=True)
    say, before = click.echo, None
    logs = {n: folder / f"log-{n}" for n in sorted({*customers, *([rows_of] if rounds or spark else [])})}
    for n, log in logs.items():
        if not log.exists():
            seconds, cpu, peak = child("task", "generate", log, n)
            say(f"{n:>11,} customers simulated in {seconds:.0f} s ({cpu:.0f} s of processor), {peak:,.0f} MB")
    for n in sorted(customers):
        log = logs[n]
        rows = duckdb.sql(f"SELECT sum(num_rows) FROM parquet_file_metadata('{log}/*.parquet')").fetchone()[0]
        size = sum(file.stat().st_size for file in log.iterdir())
        first, job, second = child("task", "bare", log), run_job(log, folder), child("task", "bare", log)
        (folder / "scores.parquet").unlink()
        query = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
        say(f"\n{int(rows):,} rows, {n:,} customers, {job['states']:,} states; {size / rows:.1f} bytes a row; "
            f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
        total = [sum(stage[i] for stage in job["stages"].values()) for i in (0, 1)]
        lines = job["stages"] | {"whole job": [*total, max(s[2] for s in job["stages"].values())], "bare query": query}
        say(f"{'':12}{'seconds':>9}{'processor':>11}{'peak MB':>9}   growth of both")
        for name, (seconds, cpu, peak) in lines.items():
            growth = f"   {seconds / before[name][0]:6.1f} {cpu / before[name][1]:6.1f}" if before else ""
            say(f"{name:12}{seconds:9.2f}{cpu:11.2f}{peak:9,.0f}{growth}")
        say(
            f"whole job / bare query: {total[0] / query[0]:.2f} in seconds, {total[1] / query[1]:.2f} in processor time"
        )
        before = lines
    if rounds:
        against_queries(logs[rows_of], folder, rounds)
    if spark:
        against_spark(logs[rows_of], folder)
    say(f"\nLogs are kept for the next run: rm -r {folder}")


def against_queries(log, folder, rounds):
    click.echo("\nSummary with amounts beside hand-written queries: median seconds, processor, peak MB, difference")
    forms = ("crmlab", *QUERIES)
    taken = {form: [] for form in forms}
    for i in range(rounds):
        for form in forms:
            target = [folder / f"summary-{forms.index(form)}.parquet"] if i == 0 else []
            taken[form].append(child("task", "summarized", log, form, *target))
    middle = {form: [statistics.median(column) for column in zip(*runs, strict=True)] for form, runs in taken.items()}
    for form, (seconds, cpu, peak) in middle.items():
        pair = (folder / f"summary-{forms.index(form)}.parquet", folder / "summary-0.parquet")
        apart = difference(*pair, ["frequency", "recency", "T", "monetary_value"])
        click.echo(
            f"{form:24}{seconds:8.2f}{cpu:8.2f}{peak:8,.0f}   {apart if apart is None else format(apart, '.0e')}"
        )
    for i, kind in enumerate(("seconds", "processor time")):
        best = min(QUERIES, key=lambda form: middle[form][i])
        ratios = [a[i] / b[i] for a, b in zip(taken["crmlab"], taken[best], strict=True)]
        click.echo(f"crmlab / {best}: {statistics.median(ratios):.2f} in {kind} (median of {rounds} rounds)")
    for form in forms:
        (folder / f"summary-{forms.index(form)}.parquet").unlink()


def against_spark(log, folder):
    theirs = on_spark(log, folder)
    ours = run_job(log, folder, "--summary", folder / "summary.parquet")
    click.echo(f"\nSpark, {ours['customers']:,} customers: {theirs['seconds']:.0f} s from spark-submit to its end, "
               f"at most {theirs['peak']:,.0f} MB in all processes")  # fmt: skip
    for name, (seconds, *_) in theirs["stages"].items():
        click.echo(f"{name:12}{seconds:9.2f}")
    params = max(abs(theirs["params"][name] / value - 1) for name, value in ours["params"].items())
    same = {"states": theirs["states"] == ours["states"], "parameters": f"{params:.0e}"}
    for name, columns in {
        "summary": ["frequency", "recency", "T"],
        "scores": ["p_alive", "expected_purchases"],
    }.items():
        same[name] = in_words(difference(folder / f"{name}.spark/*.parquet", folder / f"{name}.parquet", columns))
        (folder / f"{name}.parquet").unlink()
        shutil.rmtree(folder / f"{name}.spark")
    click.echo("Largest relative differences: " + ", ".join(f"{name} {value}" for name, value in same.items()))


@main.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("arguments", nargs=-1)
def task(name, arguments):
    """One task, in this process: its seconds, processor seconds and peak of memory."""
    click.echo(json.dumps(TASKS[name](*arguments)))


if __name__ == "__main__":
    main()
