"""How a log should lie on disk: `python -m tests.benchmarks.scale_layout LOG` with a log of `simulate_log`.

The same rows in other orders and files; seconds and processor seconds of the bare query and of the summary.
"""

import os
import tempfile
from pathlib import Path

import click
import duckdb

from tests.benchmarks.scale import child

LAYOUTS = {
    "by date, groups of 122,880": "ORDER BY date) TO '{file}' (FORMAT parquet",
    "by date, groups of 10,240": "ORDER BY date) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 10240",
    "by month, in it by customer": "ORDER BY date_trunc('month', date), customer_id) TO '{file}' (FORMAT parquet",
    "by customer": "ORDER BY customer_id, date) TO '{file}' (FORMAT parquet",
    "by hash of customer, 16 files": "ORDER BY hash(customer_id) % 16, date) TO '{folder}' "
    "(FORMAT parquet, PARTITION_BY part",
}


@click.command()
@click.argument("log", type=Path)
def main(log):
    """Print a line a layout, the log as it is first."""
    with tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        places = {"as it is: one file a month": log}
        for i, (name, clause) in enumerate(LAYOUTS.items()):
            places[name] = folder = Path(scratch) / str(i)
            folder.mkdir()
            columns = "*, hash(customer_id) % 16 AS part" if "PARTITION_BY" in clause else "*"
            clause = clause.format(file=folder / "log.parquet", folder=folder / "parts")
            duckdb.sql(f"COPY (SELECT {columns} FROM '{log}/*.parquet' {clause})")
        click.echo(f"{'':32}{'MB':>6}   bare query       summary    load {os.getloadavg()[0]:.1f}")
        for name, folder in places.items():
            size = sum(file.stat().st_size for file in folder.rglob("*.parquet")) / 1e6
            # crmlab reads a folder with all that is below it, the query what its pattern says.
            pattern = folder / "parts" / "*" if (folder / "parts").exists() else folder
            taken = [child("task", "bare", pattern), child("task", "summarized", folder, "crmlab")]
            click.echo(f"{name:32}{size:6.0f}" + "".join(f"{a:9.2f}{b:8.2f}" for a, b, _ in taken))


if __name__ == "__main__":
    main()
