import subprocess
import sys
from pathlib import Path


def test_the_benchmarks_run_and_both_sides_find_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--customers", "2000", "--rows", "3000"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    assert done.stdout.count("same totals") == 4
    assert done.stdout.count("log-likelihood") == 4
    assert "2,000 simulated customers" in done.stdout
