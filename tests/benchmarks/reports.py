"""Time ten reports by `crmlab build` beside papermill and nbconvert: `python -m tests.benchmarks.reports`.

The peers are the two commands that a user would type, one after another, on the same notebooks. Every notebook imports
what a short report imports, and shows a table, a figure, a regression and a fitted purchase model. Ratios are quoted,
not seconds: the machine is shared and noisy. Processor seconds, of all processes together, stand beside the clock's.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CELLS = (
    "import matplotlib.pyplot as plt\nimport numpy as np\nimport pandas as pd\nimport seaborn as sns\n"
    "import statsmodels.formula.api as smf\nfrom crmlab import clv\nfrom crmlab.report import record, record_table",
    "summary = clv.summarize('cdnow_sample', calibration_end='1997-09-30').order_by('customer_id').to_pandas()\n"
    "summary = summary.sample(2000, random_state=seed)\nrecord_table('head', summary.head())",
    "ax = sns.histplot(summary['frequency'])\nax.set_title('Repeat purchases');",
    "smf.ols('frequency_holdout ~ frequency + recency', summary).fit().summary()",
    "model = clv.BGNBD().fit(summary)\nrecord('r', model.params['r'])",
)


def write(folder, reports):
    """Write the notebook and a manifest of so many runs of it."""
    cells = [new_markdown_cell("# Who comes back?"), new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]})]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = new_notebook(cells=[*cells, *map(new_code_cell, CELLS)], metadata={"kernelspec": kernel})
    nbformat.write(content, folder / "report.ipynb")
    manifest = folder / f"{reports}.toml"
    manifest.write_text(
        f'[[report]]\nname = "report"\nnotebook = "report.ipynb"\nmatrix = {{seed = {list(range(reports))}}}\n'
    )
    return manifest


def spent(*commands):
    """Seconds by the clock and of processors that commands take, one after another."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for words in commands:
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{' '.join(map(str, words))}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, processor


def verdict(reached):
    """Say whether a target was reached."""
    return "yes" if reached else "NO"


@click.command(context_settings={"show_default": True})
@click.option("--reports", default=10, help="Reports that both sides make.")
@click.option("--jobs", default=2, help="Reports that crmlab runs at a time.")
def main(reports, jobs):
    """Print one line a task, with its target and whether it was reached."""
    tools = Path(sys.executable).parent
    crmlab = [tools / "crmlab", "build"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, peers = write(folder, reports), []
        for seed in range(reports):
            page = folder / f"peer{seed}.ipynb"
            peers.append([tools / "papermill", folder / "report.ipynb", page, "-p", "seed", seed])
            peers.append([tools / "jupyter", "nbconvert", "--to", "html", "--no-input", page])
        ours = spent([*crmlab, manifest, "--jobs", jobs])
        theirs = spent(*peers)
        ratio = ours[0] / theirs[0]
        click.echo(f"{reports} reports, crmlab build --jobs {jobs}: {ours[0]:.1f} s, {ours[1]:.1f} s of processors")
        click.echo(f"papermill and nbconvert, in turn: {theirs[0]:.1f} s, {theirs[1]:.1f} s of processors")
        click.echo(
            f"wall time {ratio:.2f} of theirs (≤ 0.25: {verdict(ratio <= 0.25)}); processors {ours[1] / theirs[1]:.2f}"
        )

        # Several seconds each: notebooks of the workbook with small parameters, side by side as in a build.
        fast = Path(__file__).parents[2] / "reports" / "fast.toml"
        spent([*crmlab, fast, "--jobs", 1, "--out", folder / "fast"])
        facts = [json.loads(path.read_bytes()) for path in folder.glob("fast/*/run.json")]
        cells = sum(one["cell_seconds"] for one in facts)
        share = sum(one["seconds"] for one in facts) / cells - 1
        each = ", ".join(f"{one['seconds']:.1f} s" for one in facts)
        click.echo(f"overhead over {cells:.1f} s in kernels ({each}): {share:.1%} (< 10 %: {verdict(share < 0.1)})")

        twelve = write(folder, 12)
        spent([*crmlab, twelve, "--jobs", jobs, "--out", folder / "twelve"])
        again = min(spent([*crmlab, twelve, "--out", folder / "twelve"])[0] for _ in range(3))
        click.echo(f"12 reports, nothing changed: {again:.2f} s (< 1 s: {verdict(again < 1)})")

        code = "import sys, time; from crmlab.report import read_manifest; t = time.perf_counter(); "
        code += "runs = read_manifest(sys.argv[1]); print(len(runs), time.perf_counter() - t)"
        many = write(folder, 200)
        checks = []
        for _ in range(3):
            done = subprocess.run([sys.executable, "-c", code, many], capture_output=True, text=True, check=True)
            checks.append(float(done.stdout.split()[1]))
        click.echo(f"parameters of 200 runs checked: {min(checks):.2f} s (< 1 s: {verdict(min(checks) < 1)})")
        click.echo(f"load of the machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
