import mpmath
import numpy as np
import pandas as pd
import pytest

from crmlab import clv
from crmlab.data import DataError

MODEL = clv.GammaGamma()


@pytest.mark.parametrize(("x", "mean"), [(1, 5.0), (2, 35.0), (40, 0.5), (300, 2000.0)])
def test_likelihood_equals_an_integral_over_the_customers(x, mean):
    p, q, v = 6.25, 3.74, 15.44
    with mpmath.workdps(40):

        def joint(nu):
            own = mpmath.mpf(x * nu) ** (p * x) * mpmath.mpf(mean) ** (p * x - 1) * mpmath.exp(-x * nu * mean)
            return own / mpmath.gamma(p * x) * v**q * nu ** (q - 1) * mpmath.exp(-v * nu) / mpmath.gamma(q)

        peak = (p * x + q - 1) / (v + x * mean)
        width = peak / mpmath.sqrt(p * x + q - 1)
        cuts = [max(0, peak + k * width) for k in (-60, -10, -5, -2, 0, 2, 5, 10, 20, 60)]
        wanted = mpmath.log(mpmath.quad(joint, sorted(set(cuts))))
    assert MODEL.loglike((p, q, v), [x], [mean])[0] == pytest.approx(float(wanted), rel=1e-8)


def test_fit_recovers_the_parameters_that_made_the_data():
    rng, (p, q, v) = np.random.default_rng(2), (4.0, 3.0, 20.0)
    x = rng.integers(1, 8, 20000)
    mean = rng.gamma(p * x) / (x * rng.gamma(q, size=len(x)) / v)
    result = MODEL.fit(pd.DataFrame({"frequency": x, "monetary_value": mean}))
    assert result.converged
    z = (np.log(result.params) - np.log([p, q, v])) / np.sqrt(np.diag(result._log_cov()))
    assert (np.abs(z) < 3.5).all()


def test_weights_equal_repetition(cdnow_summary):
    twice = MODEL.fit(pd.concat([cdnow_summary, cdnow_summary]))
    weighted = MODEL.fit(cdnow_summary.assign(weight=2))
    assert weighted.params.to_numpy() == pytest.approx(twice.params.to_numpy(), rel=1e-8)
    assert weighted.llf == pytest.approx(twice.llf, rel=1e-12)


def test_amounts_in_cents_change_the_scale_only(cdnow_summary):
    base = MODEL.fit(cdnow_summary)
    cents = MODEL.fit(cdnow_summary.assign(monetary_value=cdnow_summary["monetary_value"] * 100))
    assert cents.params.to_numpy() == pytest.approx(base.params.to_numpy() * [1, 1, 100], rel=1e-6)


def test_expected_spend_lies_between_the_own_mean_and_everybodys():
    params = (6.25, 3.74, 15.44)
    everybody = MODEL.expected_spend(params, [0], [np.nan])[0]
    for mean in (5.0, 500.0):
        spend = MODEL.expected_spend(params, [1, 5, 50], [mean] * 3)
        distance = np.abs(spend - mean)
        assert (np.diff(distance) < 0).all(), "more purchases, more trust in the own mean"
        assert (distance < abs(everybody - mean)).all()


def test_no_expected_spend_where_it_does_not_exist():
    assert np.isnan(MODEL.expected_spend((0.2, 0.5, 10.0), [0], [0.0])[0])
    assert MODEL.expected_spend((0.2, 0.5, 10.0), [10], [3.0])[0] > 0


@pytest.mark.filterwarnings("ignore:Gamma-Gamma did not converge")
def test_unequal_amounts_without_a_mean_are_said_to_be_so():
    rng = np.random.default_rng(0)
    x = rng.integers(2, 6, 5000)
    mean = rng.gamma(3.0 * x) / (x * rng.gamma(0.7, size=len(x)) / 10)
    with pytest.warns(RuntimeWarning, match="q = 0.69 ≤ 1"):
        MODEL.fit(pd.DataFrame({"frequency": x, "monetary_value": mean}))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"frequency": [1, 2]}), "no monetary_value"),
        (pd.DataFrame({"frequency": [0, 0, 1], "monetary_value": [np.nan, np.nan, 3.0]}), "Only 1 customers"),
        (pd.DataFrame({"frequency": [1, 1, 1], "monetary_value": [0.0, 3.0, -2.0]}), "2 customers.*zero or negative"),
    ],
)
def test_amounts_that_cannot_be_modelled_are_refused_in_words(frame, words):
    with pytest.raises(DataError, match=words):
        MODEL.fit(frame)
