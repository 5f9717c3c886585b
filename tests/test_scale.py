import json
import subprocess
import sys
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis import _

from crmlab import clv, data
from crmlab.data import DataError, write_parquet

ROOT = Path(__file__).parents[1]


def run(*command):
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_job_scores_every_customer_of_a_log_as_a_table_of_pandas_would(tmp_path):
    log = data.simulate_log(tmp_path / "log", 3_000, seed=5)
    found = json.loads(run("tests/benchmarks/scale_job.py", log, tmp_path / "scores.parquet").splitlines()[-1])
    summary = clv.summarize(log).to_pandas()
    fit = clv.MBGNBD().fit(summary)
    assert found["params"] == pytest.approx(fit.params.to_dict(), rel=1e-9)
    scores = pd.read_parquet(tmp_path / "scores.parquet").set_index("customer_id").sort_index()
    expected = fit.predict(summary, horizon=52).sort_index()[scores.columns]
    pd.testing.assert_frame_equal(scores, expected, rtol=1e-9)


def test_the_benchmark_of_scale_runs_and_its_queries_give_the_summary_of_crmlab(tmp_path):
    small = ("--customers", "1000", "--rows-of", "1000", "--rounds", "1", "--folder", tmp_path)
    printed = run("-m", "tests.benchmarks.scale", *small)
    assert printed.count("whole job / bare query") == 1
    assert "OTHER CUSTOMERS" not in printed
    for form in ("days, then customers", "lists of days", "distinct days, joined"):
        line = next(line for line in printed.splitlines() if line.startswith(form))
        assert float(line.split()[-1]) < 1e-9
    assert [path.name for path in tmp_path.iterdir()] == ["log-1000"]


def test_a_table_that_cannot_be_computed_leaves_the_former_file_and_nothing_else(tmp_path):
    target = tmp_path / "scores.parquet"
    table = ibis.memtable({"x": ["1", "one"]})
    write_parquet(table, target)
    before = target.read_bytes()
    with pytest.raises(Exception, match="one"):
        write_parquet(table.select(x=_.x.cast("int64")), target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]
    write_parquet(table.limit(1), str(target))
    assert len(pd.read_parquet(target)) == 1


def test_a_file_without_its_folder_and_a_folder_in_its_place_are_refused_in_words(tmp_path):
    table = ibis.memtable({"x": [1]})
    for path in (tmp_path / "none" / "scores.parquet", tmp_path):
        with pytest.raises(DataError, match="must be a file in a folder that exists"):
            write_parquet(table, path)


STATE = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(9, 12), st.integers(1, 1_000))


@settings(deadline=None)
@given(st.lists(STATE, min_size=1, max_size=30))
def test_states_of_states_are_their_sums_in_the_same_order(rows):
    frame = pd.DataFrame(rows, columns=["frequency", "recency", "T", "weight"])
    frame = pd.concat([frame, pd.DataFrame({"frequency": [0], "recency": [0], "T": [9], "weight": [1]})])
    frame = frame.assign(recency=frame["recency"] / 7, T=frame["T"] / 7, unit="W")
    found = clv.states(frame)
    expected = frame.groupby(["frequency", "recency", "T", "unit"], as_index=False)["weight"].sum()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found["weight"].dtype == np.int64
    pd.testing.assert_frame_equal(clv.states(found), found)


def test_customers_without_a_weight_that_counts_are_refused():
    frame = pd.DataFrame({"frequency": [0, 1], "recency": [0.0, 1.0], "T": [2.0, 2.0], "weight": [1.0, 0.0]})
    with pytest.raises(DataError, match="a weight that is not positive"):
        clv.states(frame)
