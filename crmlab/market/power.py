"""How many customers an experiment needs, or what one with so many can see."""

import math

import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level


def sample_size(
    effect=None, *, rate=None, sd=None, n=None, power=0.8, control_share=0.5, comparisons=1, level=0.95
):  # fmt: skip
    r"""Say how many customers an experiment needs, which effect it can detect, or how likely it is to detect one.

    Give two of the three: the difference to detect, the number of customers, the power. With :math:`\pi` the share of
    the control group, :math:`V = \sigma_1^2 / (1 - \pi) + \sigma_0^2 / \pi` and
    :math:`\alpha' = (1 - \mathrm{level}) / \mathrm{comparisons}`,

    .. math:: n = \left(z_{1 - \alpha'/2} + z_{\mathrm{power}}\right)^2 V / \delta^2 .

    For a share, :math:`\sigma_0^2 = p (1 - p)` and :math:`\sigma_1^2 = (p + \delta)(1 - p - \delta)`.

    Parameters
    ----------
    effect : float, optional
        Difference between treated and control that should be detected: in points of the share (0.01 for one
        percentage point), or in the unit of `sd`. Without it, the smallest that `n` customers detect is found.
    rate : float, optional
        Share of the control group that responds, for an outcome of yes or no.
    sd : float, optional
        Standard deviation of the outcome among customers, for a mean such as spend. Who spends nothing counts.
    n : int, optional
        Customers in both arms together. With `effect` too, the power is found.
    power : float
        Probability of detecting the effect if it is there.
    control_share : float
        Share of the customers who are the control group.
    comparisons : int
        Arms that are compared with the same control; the error is divided by it (Bonferroni), and `n` counts the
        control group and one of the arms.
    level : float
        Level of the interval that must not cover zero.

    Returns
    -------
    pandas.Series
        `customers` and of them `treated` and `control`, `effect`, `relative` (effect as a share of `rate`; missing for
        a mean), `power`, `level`.

    Raises
    ------
    DataError
        Neither or both of `rate` and `sd`, nothing to compute from, numbers that cannot be.

    Notes
    -----
    Normal approximation with the two arms' own variances, as `effect` tests it; Chow, Shao and Wang (2008), Sample Size
    Calculations in Clinical Research. With fewer than about ten responses an arm it promises too much.

    Examples
    --------
    >>> int(sample_size(0.01, rate=0.1)["customers"])
    29498
    >>> round(float(sample_size(n=29_498, rate=0.1)["effect"]), 4)
    0.01
    """
    if (rate is None) == (sd is None):
        raise DataError("Give one of rate (share of the control group that responds) and sd (of the outcome).")
    if rate is not None and not 0 < rate < 1:
        raise DataError(f"rate is a share between 0 and 1, not {rate!r}.")
    if sd is not None and not 0 < sd < math.inf:
        raise DataError(f"sd must be a positive number, not {sd!r}.")
    for name, share in (("power", power), ("control_share", control_share)):
        if not 0 < share < 1:
            raise DataError(f"{name} must lie between 0 and 1, not {share!r}.")
    if comparisons < 1 or comparisons != int(comparisons):
        raise DataError(f"comparisons is a number of arms, 1 or more, not {comparisons!r}.")
    if effect is None and n is None:
        raise DataError("Give the effect to detect, or n to learn which effect can be detected.")
    if n is not None and not n >= 4:
        raise DataError(f"n is a number of customers, at least 4, not {n!r}.")
    if effect is not None and (not math.isfinite(effect) or effect == 0):
        raise DataError(f"effect must be a difference other than 0, not {effect!r}.")
    if effect is not None and rate is not None and not 0 <= rate + effect <= 1:
        raise DataError(f"A rate of {rate} cannot change by {effect}: the result would be {rate + effect:.4g}.")
    z = ndtri(1 - (1 - checked_level(level)) / 2 / comparisons)

    def variance(delta):
        here, there = (rate * (1 - rate), (rate + delta) * (1 - rate - delta)) if sd is None else (sd**2, sd**2)
        return there / (1 - control_share) + here / control_share

    if effect is None:
        effect = _detectable(variance, z + ndtri(power), n, rate)
    elif n is not None:
        power = float(ndtr(abs(effect) * math.sqrt(n / variance(effect)) - z))
    if n is None:
        n = (z + ndtri(power)) ** 2 * variance(effect) / effect**2
    # Rounded up in each arm, but not for the error of a floating-point division.
    control, treated = (max(math.ceil(n * share - 1e-6), 2) for share in (control_share, 1 - control_share))
    return pd.Series(
        {
            "customers": control + treated,
            "treated": treated,
            "control": control,
            "effect": effect,
            "relative": math.nan if rate is None else effect / rate,
            "power": power,
            "level": level,
        }
    )


def _detectable(variance, z, n, rate):
    """The smallest increase that n customers detect."""
    if rate is None:
        return z * math.sqrt(variance(0.0) / n)

    def lacking(delta):
        return z * math.sqrt(variance(delta) / n) - delta

    if lacking(1 - rate) > 0:
        raise DataError(f"{n:,} customers detect no increase at all from a rate of {rate}: more are needed.")
    return brentq(lacking, 0.0, 1 - rate, xtol=1e-12)
