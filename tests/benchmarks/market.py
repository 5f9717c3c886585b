"""Time the counting of pairs beside mlxtend's FP-growth: `python -m tests.benchmarks.market`.

Both find the pairs of items that are together in at least `least` baskets. From the log in Parquet each makes the
table of ones that it counts from, which is timed by itself; the target is that of the counting. Each runs in a process
of its own, started anew, that has worked on a small file before. Memory is the peak of the process above what it took
before, which for both begins with reading the file.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from tests.benchmarks.lifecycle import peak

FASTER, SMALLER = 40, 5


def simulate(baskets, items, seed=0):
    """Lines of baskets of six items on average, some items far more frequent than others."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, items + 1) ** 0.7
    size = 1 + rng.poisson(5, baskets)
    bought = rng.choice(items, size.sum(), p=weight / weight.sum())
    lines = pd.DataFrame({"order_id": np.repeat(np.arange(baskets), size), "product_id": bought})
    return lines.drop_duplicates()


def crmlab_(file, least, _baskets):
    """Seconds to make the table of ones, seconds to count, and the counts of the pairs."""
    from crmlab.market.baskets import incidence, pairs_of, read

    start = time.perf_counter(), time.process_time()
    lines = read(file, "product_id", None, dated=False)
    table, _items, _baskets = incidence(lines.table, lines.keys, "item")
    made = time.perf_counter(), time.process_time()
    often = table.getnnz(axis=0)
    order = np.argsort(-often, kind="stable")
    found = pairs_of(table[:, order[often[order] >= least]], least)
    return start, made, found["count"].to_numpy()


def mlxtend_(file, least, baskets):
    """The same by mlxtend."""
    from mlxtend.frequent_patterns import fpgrowth
    from scipy import sparse

    start = time.perf_counter(), time.process_time()
    lines = pd.read_parquet(file)
    ones = np.ones(len(lines), dtype=bool)
    table = sparse.csr_matrix((ones, (lines["order_id"], lines["product_id"])))
    frame = pd.DataFrame.sparse.from_spmatrix(table)
    made = time.perf_counter(), time.process_time()
    found = fpgrowth(frame, min_support=(least - 0.5) / baskets, max_len=2)
    pairs = found[found["itemsets"].map(len) == 2]
    return start, made, np.rint(pairs["support"].to_numpy() * baskets).astype(int)


ENGINES = {"crmlab": crmlab_, "mlxtend": mlxtend_}


def timed(engine, small, file, least, baskets):
    """Print wall and processor seconds of both parts, megabytes, number of pairs and the sum of squares of counts."""
    ENGINES[engine](small, 2, 1000)
    before = peak()
    start, made, counts = ENGINES[engine](file, least, baskets)
    end = time.perf_counter(), time.process_time()
    seconds = [made[0] - start[0], end[0] - made[0], made[1] - start[1], end[1] - made[1]]
    click.echo(json.dumps([*seconds, peak() - before, len(counts), int((counts.astype(float) ** 2).sum())]))


def measured(engine, *arguments):
    """What `timed` prints in another process, or why it failed."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.market", "--child", engine]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise click.ClickException(f"{engine}: {said.splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


@click.command(context_settings={"show_default": True})
@click.option("--baskets", default=1_000_000, help="How many.")
@click.option("--items", default=5000, help="Different ones.")
@click.option("--least", default=100, help="Baskets that a pair must be in.")
@click.option("--rounds", default=1, help="How often mlxtend; crmlab runs before and after, and the median counts.")
@click.option("--child", nargs=5, hidden=True)
def main(baskets, items, least, rounds, child):
    """Print seconds, megabytes and pairs of both, and whether the targets are reached."""
    if child:
        engine, small, file, *numbers = child
        return timed(engine, small, file, *map(int, numbers))
    with tempfile.TemporaryDirectory() as folder:
        small, file = f"{folder}/small.parquet", f"{folder}/lines.parquet"
        simulate(1000, 50).to_parquet(small, index=False)
        lines = simulate(baskets, items)
        lines.to_parquet(file, index=False)
        click.echo(f"{len(lines):,} lines of {baskets:,} baskets, {items:,} items, pairs in at least {least} baskets")
        del lines
        arguments = (small, file, least, baskets)
        ours, theirs = [measured("crmlab", *arguments)], []
        for _round in range(rounds):
            theirs.append(measured("mlxtend", *arguments))
            ours.append(measured("crmlab", *arguments))
    click.echo(f"{'':10}{'table s':>9}{'count s':>9}{'CPU s':>9}{'CPU s':>9}{'MB':>7}{'pairs':>8}")
    middle = {}
    for name, runs in (("crmlab", ours), ("mlxtend", theirs)):
        middle[name] = [statistics.median(run) for run in zip(*runs, strict=True)]
        table, counting, table_used, counting_used, memory, pairs, _sum = middle[name]
        times = f"{table:9.2f}{counting:9.2f}{table_used:9.2f}{counting_used:9.2f}"
        click.echo(f"{name:10}{times}{memory:7.0f}{pairs:8,.0f}")
    mine, other = middle["crmlab"], middle["mlxtend"]
    faster, used = other[1] / mine[1], other[3] / mine[3]
    from_file, used_from_file = (sum(other[i : i + 2]) / sum(mine[i : i + 2]) for i in (0, 2))
    smaller = other[4] / max(mine[4], 1.0)
    reached = "yes" if faster >= FASTER else "NO"
    click.echo(f"counting: {faster:.1f} times as fast, processor {used:.1f}; ≥ {FASTER}: {reached}")
    click.echo(f"from the file: {from_file:.1f} times as fast, processor {used_from_file:.1f}")
    click.echo(f"memory: 1/{smaller:.1f}; ≤ 1/{SMALLER}: {'yes' if smaller >= SMALLER else 'NO'}")
    click.echo(f"counts: {'same' if len({tuple(run[5:]) for run in [*ours, *theirs]}) == 1 else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
