"""Which factor made the change: exact attribution of a product, and one assumption at a time."""

import itertools
import math

import numpy as np
import pandas as pd

from crmlab.clv.economics import _numbers
from crmlab.data.errors import DataError


def decompose(before, after, method="log-mean"):
    r"""Return how much of the change of a product is due to each of its factors, without a remainder.

    With :math:`P = \prod_i f_i` (customers × frequency × value × margin) and the change :math:`P_1 - P_0`,

    .. math:: \text{log-mean: } \frac{P_1 - P_0}{\ln P_1 - \ln P_0} \ln\frac{f_{i1}}{f_{i0}}, \qquad
        \text{Shapley: the mean of the change by } f_i \text{ over all orders in which the factors may change.}

    Parameters
    ----------
    before, after : dict or pandas.Series
        Factor name to value, the same names in both.
    method : {"log-mean", "shapley"}
        The logarithmic mean needs positive factors; Shapley's values take any, also a margin that was negative.

    Returns
    -------
    pandas.DataFrame
        Indexed by factor: `before`, `after`, `change` (after over before, less 1) and `contribution`, in the unit of
        the product. The contributions sum to its change.

    Raises
    ------
    DataError
        Different names, an unknown method, factors that are not positive with the logarithmic mean.

    Notes
    -----
    Logarithmic mean: Ang (2005), Energy Policy 33, 867-871. Shapley: Shorrocks (2013), Journal of Economic Inequality
    11, 99-126.

    Examples
    --------
    >>> before, after = {"customers": 100, "margin": 2.0}, {"customers": 110, "margin": 3.0}
    >>> decompose(before, after, "shapley")["contribution"].tolist()
    [25.0, 105.0]
    """
    before, after = (pd.Series(given, dtype=float) for given in (before, after))
    if set(before.index) != set(after.index) or not len(before) or not before.index.is_unique:
        raise DataError(
            f"The factors before ({', '.join(map(str, before.index))}) and after ({', '.join(map(str, after.index))}) "
            "must have the same names, each once."
        )
    after = after[before.index]
    old, new = _numbers(before=before, after=after)
    if method == "log-mean":
        if (old <= 0).any() or (new <= 0).any():
            raise DataError('The logarithmic mean needs positive factors; method="shapley" takes any.')
        parts = _log_mean(old.prod(), new.prod()) * np.log(new / old)
    elif method == "shapley":
        parts = _shapley(old, new)
    else:
        raise DataError(f"method must be 'log-mean' or 'shapley', not {method!r}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        change = new / old - 1
    table = {"before": old, "after": new, "change": change, "contribution": parts}
    return pd.DataFrame(table, index=before.index.rename("factor"))


def sensitivity(function, base, ranges):
    """Return how far a result moves when one assumption at a time goes from its low to its high value.

    Parameters
    ----------
    function : callable
        Takes the assumptions by name and returns a number.
    base : dict
        Assumption to the value that it keeps while others move.
    ranges : dict
        Assumption to its low and its high value; at least the uncertain ones.

    Returns
    -------
    pandas.DataFrame
        Indexed by assumption, widest first: `low`, `high`, `at_low`, `at_high` (the results there) and `base` (the
        result at the base). What a tornado diagram draws.

    Raises
    ------
    DataError
        A range of an assumption that the base lacks, or that is not two numbers.

    Examples
    --------
    >>> table = sensitivity(lambda x, y: x * y, {"x": 2, "y": 10}, {"x": (1, 3), "y": (9, 11)})
    >>> table[["at_low", "at_high"]].to_numpy().tolist()
    [[10.0, 30.0], [18.0, 22.0]]
    """
    rows = {}
    for name, limits in ranges.items():
        if name not in base:
            raise DataError(f"The base lacks {name}; it has {', '.join(base)}.")
        if len(limits) != 2:
            raise DataError(f"The range of {name} must be a low and a high value, not {limits!r}.")
        results = [float(function(**{**base, name: value})) for value in limits]
        rows[name] = dict(zip(("low", "high", "at_low", "at_high"), (*map(float, limits), *results), strict=True))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("assumption")
    table["base"] = float(function(**base))
    widest = (table["at_high"] - table["at_low"]).abs().sort_values(ascending=False, kind="stable").index
    return table.loc[widest]


def _log_mean(a, b):
    """The logarithmic mean; near a = b by its series, where the difference of logs would lose all digits."""
    u = b / a - 1
    return a * (1 + u / 2 - u * u / 12) if abs(u) < 1e-5 else (b - a) / math.log(b / a)


def _shapley(old, new):
    n = len(old)
    parts = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = 1 / (n * math.comb(n - 1, size))
            for changed in itertools.combinations(others, size):
                rest = math.prod(new[j] if j in changed else old[j] for j in others)
                parts[i] += weight * rest * (new[i] - old[i])
    return parts
