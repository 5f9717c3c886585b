"""What a comparison of adopters with others shows when good firms adopt, and adopting does nothing (simulated)."""

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z


def adopters_against_others(firms=500, quality=1.0, effect=0.0, seed=0):
    r"""Simulate firms of which the better ones adopt a system and grow, and compare adopters with the others.

    Firm :math:`i` has a quality :math:`q_i \sim N(0, 1)` that nobody sees. It adopts with probability
    :math:`1 / (1 + e^{-2 a q_i})` and grows by :math:`4 + 2 q_i + e\,D_i + u_i` percent a year, with
    :math:`u_i \sim N(0, 2^2)`. All numbers are assumptions, chosen so that with :math:`a = 1` the adopters grow about
    twice as fast as the others, as the claim has it.

    Parameters
    ----------
    firms : int
        Number of firms, at least 50.
    quality : float
        :math:`a`, how much the quality of a firm decides on adopting; 0 is as good as drawing lots.
    effect : float
        :math:`e`, what adopting adds to the growth, in percentage points a year; 0 is nothing at all.
    seed : int
        Seed of the simulation.

    Returns
    -------
    pandas.DataFrame
        Indexed by `comparison` ("adopters less others", "the same, quality known"): `estimate`, `low`, `high`
        (95 %, percentage points of growth), `truth`, and mean `growth_adopters` and `growth_others`;
        ``attrs["reality"]`` is "simulated".

    Raises
    ------
    DataError
        Fewer than 50 firms, or so strong a selection that nobody (or everybody) adopts.

    Notes
    -----
    The second comparison is a regression on adoption and quality, which only a simulation can run.

    Examples
    --------
    >>> found = adopters_against_others()
    >>> bool(found.loc["adopters less others", "low"] > 0)
    True
    >>> found.loc["the same, quality known", ["low", "high"]].gt(0).tolist()
    [False, True]
    """
    if firms < 50:
        raise DataError(f"firms must be at least 50 for an interval to mean something, not {firms!r}.")
    rng = np.random.default_rng(seed)
    q = rng.normal(size=firms)
    adopts = rng.random(firms) < 1 / (1 + np.exp(-2 * quality * q))
    if not 2 <= adopts.sum() <= firms - 2:
        raise DataError(f"{adopts.sum()} of {firms} firms adopt: there is nothing to compare.")
    growth = 4 + 2 * q + effect * adopts + rng.normal(0, 2, firms)
    columns = {"adopters less others": (adopts,), "the same, quality known": (adopts, q)}
    rows = {}
    for name, explained in columns.items():
        x = np.column_stack([np.ones(firms), *explained])
        solved, rss = np.linalg.lstsq(x, growth, rcond=None)[:2]
        error = np.sqrt(rss[0] / (firms - x.shape[1]) * np.linalg.inv(x.T @ x)[1, 1])
        rows[name] = {"estimate": solved[1], "low": solved[1] - Z * error, "high": solved[1] + Z * error}
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("comparison")
    found = found.assign(truth=effect, growth_adopters=growth[adopts].mean(), growth_others=growth[~adopts].mean())
    found.attrs["reality"] = "simulated"
    return found
