"""Every published number on the economics of keeping customers, computed anew."""

import numpy as np

from crmlab.clv.economics import customer_value, expected_lifetime, value_lift
from crmlab.clv.renewals import sbg_value
from crmlab.clv.tradeoffs import referral_multiplier


def reproduce_economics():
    """Return every number of ``data/published/economics.toml``, computed.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`, ready for `crmlab.data.compare_published`.

    Examples
    --------
    >>> from crmlab import data
    >>> set(data.compare_published("economics", reproduce_economics())["verdict"])
    {'reproduced'}
    """
    found = {}
    for d in (10, 12, 14, 16):
        for r in (60, 70, 80, 90):
            found[f"margin_multiple.d{d}.r{r}"] = customer_value(r / 100, d / 100, timing="renewal")
    found["berger_nasr.case1.value"] = _eleven_payments()
    for name, alpha, beta in (("alike", 3.8, 15.2), ("unlike", 1 / 15, 4 / 15)):
        lives = 1.1 * sbg_value(alpha, beta, 0.10, renewals=np.arange(5), timing="renewal")
        found |= {f"fader_hardie.{name}.renewal{i}": life for i, life in enumerate(lives, 1)}
    found |= {f"reichheld_sasser.years.defections{k}": round(expected_lifetime(1 - k / 100), 9) for k in (10, 5)}
    found["reichheld_sasser.doubled.lift"] = value_lift(0.90, discount=0)
    for r in (60, 70, 80, 85, 90):
        found[f"lift.points.r{r}"] = value_lift(r / 100)
        found[f"lift.fewer_defections.r{r}"] = value_lift(r / 100, reading="fewer defections")
    found["lift.growing_margin.r90"] = value_lift(0.90, growth=0.05)
    found["lift.acquisition_cost.r80"] = value_lift(0.80, acquisition=2)
    for q in (5, 10, 25, 50):
        found[f"referrals.q{q:02d}"] = referral_multiplier(q / 100)
    return {name: float(value) for name, value in found.items()}


def _eleven_payments():
    """Berger and Nasr's case: eleven contributions at the start of the years, ten promotions in the middle of them."""
    x, forever = 0.75 / 1.2, customer_value(0.75, 0.20)
    return 260 * forever * (1 - x**11) - 50 / 1.2**0.5 * forever * (1 - x**10)
