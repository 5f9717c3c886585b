"""Groups of customers: by rules or by likeness, how stable they are, and how customers move between them."""

from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import chi2, ncx2, rankdata

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z, wilson
from crmlab.lifecycle.durations import columns_of, lacking

SAMPLE = 20_000
"""Customers in a resample: stability is about the groups, and more customers do not change it."""

TESTED = 3_000
"""Customers in a test of the number of segments, which groups many times."""

ABSENT = "(absent)"
"""Segment of customers who are missing at one of two times."""


class Segments(NamedTuple):
    """Groups of customers who are alike.

    Attributes
    ----------
    labels : pandas.Series
        Segment of each customer, 1 the largest; indexed as the table.
    profile : pandas.DataFrame
        See `profile`.
    stability : pandas.Series
        Mean adjusted Rand index of two groupings of resamples, and the `low`, `high` between which 95 % of them lie: 1
        says that another sample of customers gives the same segments, 0 that it gives any others.
    """

    labels: pd.Series
    profile: pd.DataFrame
    stability: pd.Series


class Cross(NamedTuple):
    """Two groupings of the same customers, one against the other.

    Attributes
    ----------
    table : pandas.DataFrame
        By both segments: `customers`, how many there would be if the groupings had nothing to do with each other
        (`expected`), and the adjusted `residual`, beyond ±2 hardly chance.
    association : pandas.Series
        Cramér's `v`, corrected for bias, with its 95 % interval `low`, `high`; `statistic`, `df` and `p_value` of the
        chi-squared test of independence; `customers`, and how many were `left_out` because one table lacks them.
    """

    table: pd.DataFrame
    association: pd.Series


def segments(table, features, k, n_boot=50, seed=0):
    """Group customers by likeness (k-means on standardized features) and test whether the groups are there.

    Parameters
    ----------
    table : pandas.DataFrame or ibis.Table
        One row a customer; the customers are the index, or a column `customer_id`.
    features : sequence of str
        Numbers to compare the customers by. Skewed ones, such as amounts, should be logarithms, else one rich customer
        makes a segment.
    k : int
        Number of segments.
    n_boot : int
        Pairs of resamples for the stability.
    seed : int
        Of starts and resamples.

    Returns
    -------
    Segments
        Labels, profile, stability.

    Raises
    ------
    DataError
        Missing columns or values, a feature that is no number or has one value only, fewer different customers than
        segments.

    Notes
    -----
    Stability is that of Dolnicar and Leisch (2010), Marketing Letters 21, 83-101: two resamples are grouped, both
    groupings assign the customers of the table, and the adjusted Rand index (Hubert and Arabie 1985, Journal of
    Classification 2, 193-218) compares them; at most 20,000 customers are drawn and assigned. K-means always finds k
    segments: without stability they are a division of convenience.

    Examples
    --------
    >>> toy = pd.DataFrame({"visits": [1, 2, 1, 2, 1, 9, 8, 9]})
    >>> segments(toy, ["visits"], k=2).labels.tolist()
    [1, 1, 1, 1, 1, 2, 2, 2]
    """
    from threadpoolctl import threadpool_limits

    data = _by_customer(table, features)
    x = _numbers(data)
    _enough(x, k)
    # Sorted, so that the order of the rows does not decide where the search starts.
    order = np.lexsort(x.T[::-1])
    x = x[order]

    rng = np.random.default_rng(seed)
    size = min(len(x), SAMPLE)
    with threadpool_limits(1):
        raw = _grouped(x, k, seed).labels_
        judged = x[np.sort(rng.choice(len(x), size, replace=False))]
        scores = _agreements(x, judged, k, n_boot, rng, seed)
    # By size, and for equal sizes by the first customer in order, so that names do not depend on the start.
    sizes, firsts = np.bincount(raw, minlength=k), [np.flatnonzero(raw == i)[0] for i in range(k)]
    names = np.empty(k, dtype=int)
    names[np.lexsort((firsts, -sizes))] = np.arange(1, k + 1)
    labels = np.empty(len(x), dtype=int)
    labels[order] = names[raw]
    labels = pd.Series(labels, index=data.index, name="segment")
    spread = np.quantile(scores, [0.025, 0.975]) if scores else (np.nan, np.nan)
    stability = pd.Series({"mean": np.mean(scores) if scores else np.nan, "low": spread[0], "high": spread[1]})
    return Segments(labels, profile(data, labels), stability)


def segment_numbers(table, features, numbers=range(2, 7), n_boot=30, n_null=19, seed=0):
    """Test how many segments the data support: are they more reproducible than in clouds that have no groups?

    K-means cuts any cloud of points, and some clouds are cut the same way twice although there are no groups in them.
    So the stability of the customers' segments (see `segments`) is compared with that of two kinds of cloud: ``normal``
    ones with the same spreads and correlations, and ones of the customers' ``own values``, where each feature keeps its
    values and the features are tied to each other as strongly, by ranks, and in no other way. Segments that are more
    stable than the first kind only owe it to the shape of single features: many customers with the same value, or
    groups that one feature alone shows.

    Parameters
    ----------
    table : pandas.DataFrame or ibis.Table
        One row a customer; the customers are the index, or a column `customer_id`.
    features : sequence of str
        Numbers to compare the customers by.
    numbers : sequence of int
        Numbers of segments to try.
    n_boot : int
        Pairs of resamples behind the stability of the customers; a cloud has two.
    n_null : int
        Clouds of each kind; the smallest p-value is 1 over one more than their number.
    seed : int
        Of clouds, starts and resamples.

    Returns
    -------
    pandas.DataFrame
        By `cloud` and number of `segments`: `stability` of the customers' segments (mean adjusted Rand index), the
        median of the clouds' and the `low`, `high` between which 95 % of them lie, and the `p_value`: the share of
        clouds, the customers counted among them, that are at least as stable.

    Raises
    ------
    DataError
        Missing columns or values, a feature that is no number or has one value only, fewer different customers than
        segments.

    Notes
    -----
    The second kind are draws of a Gaussian copula with the empirical margins. At most 3,000 customers are used. A mean
    of two pairs varies more than one of many, so that the p-values are too large rather than too small.

    Examples
    --------
    >>> toy = pd.DataFrame({"visits": 10 * [1, 2, 1, 9, 8], "spend": 10 * [3, 2, 1, 6, 7]})
    >>> segment_numbers(toy, ["visits", "spend"], [2]).loc[("normal", 2), "stability"].item()
    1.0
    """
    from threadpoolctl import threadpool_limits

    x = _numbers(_by_customer(table, features))
    _enough(x, *numbers)
    x = x[np.lexsort(x.T[::-1])]
    rng = np.random.default_rng(seed)
    if len(x) > TESTED:
        x = x[np.sort(rng.choice(len(x), TESTED, replace=False))]
    clouds = {"normal": [_cloud(rng, x) for _i in range(n_null)]}
    normal, own = ndtri((rankdata(x, axis=0) - 0.5) / len(x)), np.sort(x, axis=0)
    ranks = [_cloud(rng, normal).argsort(axis=0).argsort(axis=0) for _i in range(n_null)]
    clouds["own values"] = [np.take_along_axis(own, rank, axis=0) for rank in ranks]
    rows = {}
    with threadpool_limits(1):
        for k in numbers:
            stability = _stability(x, k, n_boot, rng, seed)
            for name, points in clouds.items():
                none = np.array([_stability(each, k, 2, rng, seed) for each in points])
                # Rounding must not decide between groupings that are equally stable.
                above = np.sum(~(none < stability - 1e-9))
                limits = np.quantile(none, [0.025, 0.975])
                rows[name, k] = (stability, np.median(none), *limits, (1 + above) / (1 + n_null))
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["stability", "median", "low", "high", "p_value"])
    return found.set_axis(pd.MultiIndex.from_tuples(rows, names=["cloud", "segments"])).sort_index()


def rule_segments(table, rules, other="other"):
    """Group customers by rules that are set beforehand; the first rule that holds counts.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a customer; the customers are the index, or a column `customer_id`.
    rules : dict
        Name of a segment to its rule, such as ``{"best": "frequency >= 5 and amount > 100"}`` (as in
        `pandas.DataFrame.eval`).
    other : str
        Name of the segment of all others.

    Returns
    -------
    pandas.Series
        Segment of each customer.

    Raises
    ------
    DataError
        A rule that cannot be read or does not say yes or no.

    Examples
    --------
    >>> toy = pd.DataFrame({"customer_id": ["a", "b", "c"], "orders": [1, 2, 9]})
    >>> rule_segments(toy, {"often": "orders > 5", "again": "orders > 1"}).to_dict()
    {'a': 'other', 'b': 'again', 'c': 'often'}
    """
    data = _by_customer(table)
    found = pd.Series(other, index=data.index, name="segment", dtype=object)
    free = np.ones(len(data), dtype=bool)
    for name, rule in rules.items():
        try:
            holds = data.eval(rule)
        except Exception as error:
            raise DataError(f"The rule {rule!r} of {name!r} cannot be applied: {error}") from error
        holds = np.asarray(holds)
        if holds.shape != (len(data),) or holds.dtype != bool:
            raise DataError(f"The rule {rule!r} of {name!r} must say yes or no for each customer.")
        found[holds & free] = name
        free &= ~holds
    return found


def profile(table, labels):
    """Describe segments: how large they are and the mean of each feature.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a customer; the customers are the index, or a column `customer_id`. Its numbers are described.
    labels : pandas.Series
        Segment of each customer, indexed by customer.

    Returns
    -------
    pandas.DataFrame
        By segment and feature: `mean` and its 95 % interval `low`, `high` (normal; missing for one customer), `overall`
        mean of all customers; and for the feature ``"(share)"`` the share of the customers with its Wilson interval.

    Raises
    ------
    DataError
        Customers without a segment.

    Examples
    --------
    >>> toy = pd.DataFrame({"orders": [1, 3, 8]})
    >>> profile(toy, pd.Series(["few", "few", "many"])).loc[("few", "orders"), "mean"].item()
    2.0
    """
    data = _by_customer(table)
    labels = labels.reindex(data.index)
    if labels.isna().any():
        raise DataError(f"{labels.isna().sum():,} customers of the table have no segment.")
    numbers = data.select_dtypes("number").astype(float)
    rows = {}
    for segment, part in numbers.groupby(labels.to_numpy()):
        share, low, high = (float(v) for v in wilson(len(part), len(data)))
        rows[segment, "(share)"] = (share, low, high, 1.0)
        mean, half = part.mean(), Z * part.std() / np.sqrt(len(part))
        for name in numbers:
            rows[segment, name] = (mean[name], mean[name] - half[name], mean[name] + half[name], numbers[name].mean())
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "overall"])
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["segment", "feature"]))


def migration(a, b):
    """Count how customers moved between segments from one time to another.

    Parameters
    ----------
    a, b : pandas.Series, pandas.DataFrame or ibis.Table
        Segment of each customer at the two times: a series indexed by customer, or a table with `customer_id` and
        `segment`. Who is missing at one time counts as ``"(absent)"`` there.

    Returns
    -------
    pandas.DataFrame
        By segment `before` and `after`: `customers`, the `share` of the segment before that went there, and its Wilson
        interval `low`, `high`. ``.share.unstack()`` makes it a matrix.

    Raises
    ------
    DataError
        A customer in two segments, missing values, or customers named by text at one time and by numbers at the other.

    Examples
    --------
    >>> before = pd.Series({"Ann": "gold", "Bob": "gold", "Cy": "tin"})
    >>> after = pd.Series({"Ann": "gold", "Bob": "tin", "Dee": "tin"})
    >>> migration(before, after).loc[("gold", "tin"), "share"].item()
    0.5
    """
    cells = [[ABSENT if name is None else name for name in cell] for cell in _together(a, b)]
    counts = _matrix(cells).stack()
    # Nobody was absent both times.
    counts = counts.drop(index=(ABSENT, ABSENT), errors="ignore").to_frame("customers")
    share, low, high = wilson(counts["customers"], counts.groupby("before", sort=False)["customers"].transform("sum"))
    return counts.assign(share=share, low=low, high=high)


def cross(a, b):
    r"""Cross two groupings of the same customers and measure how much one tells of the other.

    Cramér's V is :math:`\sqrt{\varphi^2 / (\min(r, c) - 1)}` with :math:`\varphi^2 = \chi^2 / n`, both corrected for
    what chance alone adds: :math:`\max(0, \varphi^2 - (r - 1)(c - 1)/(n - 1))` and
    :math:`r - (r - 1)^2 / (n - 1)`. The interval is that of the noncentrality of :math:`\chi^2`.

    Parameters
    ----------
    a, b : pandas.Series, pandas.DataFrame or ibis.Table
        Segment of each customer in the two groupings: a series indexed by customer, or a table with `customer_id` and
        `segment`.

    Returns
    -------
    Cross
        The `table` and its `association`.

    Raises
    ------
    DataError
        A customer in two segments, missing values, no customer in both, or one segment only.

    Notes
    -----
    Bergsma (2013), Journal of the Korean Statistical Society 42, 323-328, for the correction; Smithson (2003),
    Confidence Intervals, chapter 4, for the interval.

    Examples
    --------
    >>> a = pd.Series(["x"] * 50 + ["y"] * 50)
    >>> b = pd.Series(["u"] * 40 + ["v"] * 50 + ["u"] * 10)
    >>> print(cross(a, b).association["v"].round(3))
    0.595
    """
    counts = _together(a, b)
    table = _matrix([cell for cell in counts if cell[0] is not None and cell[1] is not None])
    r, c, n = *table.shape, table.to_numpy().sum()
    if min(r, c) < 2:
        raise DataError(f"There must be customers in at least two segments of each grouping, not {r} and {c}.")
    expected = np.outer(table.sum(axis=1), table.sum()) / n
    off = table.to_numpy() - expected
    statistic, df = float((off**2 / expected).sum()), (r - 1) * (c - 1)
    rest = np.outer(1 - table.sum(axis=1) / n, 1 - table.sum() / n)
    sides = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    # So few customers that the correction leaves nothing: any association is possible.
    v, low, high = np.nan, 0.0, 1.0
    if sides > 0:
        v = np.sqrt(max(0.0, statistic / n - df / (n - 1)) / sides)
        low, high = (np.sqrt(limit / n / sides) for limit in _noncentral(statistic, df))
    long = pd.DataFrame(
        {"customers": table.stack(), "expected": expected.ravel(), "residual": (off / np.sqrt(expected * rest)).ravel()}
    )
    association = {
        "v": np.minimum(v, 1.0),
        "low": min(low, 1.0),
        "high": min(high, 1.0),
        "statistic": statistic,
        "df": df,
        "p_value": chi2.sf(statistic, df),
        "customers": n,
        "left_out": sum(count for _one, _other, count in counts) - n,
    }
    return Cross(long.rename_axis(index=["a", "b"]), pd.Series(association))


def _by_customer(table, features=None):
    """A table as a frame indexed by customer, each once."""
    if isinstance(table, ibis.Table):
        if features is not None:
            lacking(table, features)
        own = [c for c in table.columns if c == "customer_id" or features is None or c in features]
        # In one order, because it decides which customers are drawn.
        table = table.select(own).to_pandas().sort_values(own, ignore_index=True)
    if "customer_id" in table.columns:
        table = table.set_index("customer_id")
    if table.index.has_duplicates or table.index.to_frame().isna().any(axis=None):
        raise DataError("Each customer must have one row and a name; see duplicates of customer_id.")
    return table if features is None else columns_of(table, features).set_index(table.index)


def _cloud(rng, x):
    """As many normal points with the spreads and correlations of x."""
    # Features that say the same leave nothing for the last one: a trifle keeps the root of the matrix.
    root = np.linalg.cholesky(np.atleast_2d(np.cov(x.T)) + 1e-9 * np.eye(x.shape[1]))
    return rng.standard_normal(x.shape) @ root.T


def _stability(x, k, n_boot, rng, seed):
    scores = _agreements(x, x, k, n_boot, rng, seed, n_init=3)
    return np.mean(scores) if scores else np.nan


def _enough(x, *numbers):
    different = len(np.unique(x, axis=0))
    for k in numbers:
        if not 2 <= k <= different:
            raise DataError(f"k must lie between 2 and the {different:,} different customers, not {k!r}.")


def _grouped(points, k, start, n_init=10):
    from sklearn.cluster import KMeans

    return KMeans(k, n_init=n_init, random_state=start).fit(points)


def _agreements(x, judged, k, n_boot, rng, start, n_init=10):
    """Adjusted Rand indices of pairs of groupings, each of a resample of x, about those judged."""
    from sklearn.metrics import adjusted_rand_score

    same = np.unique(x, axis=0, return_inverse=True)[1].ravel()

    def regrouped():
        drawn = rng.integers(0, len(x), len(judged))
        # A resample may lack what tells k customers apart.
        if np.count_nonzero(np.bincount(same[drawn])) < k:
            return None
        return _grouped(x[drawn], k, start, n_init).predict(judged)

    pairs = [(regrouped(), regrouped()) for _pair in range(n_boot)]
    return [adjusted_rand_score(one, two) for one, two in pairs if one is not None and two is not None]


def _numbers(data):
    for c in data:
        if not pd.api.types.is_numeric_dtype(data[c]) or not np.isfinite(data[c].astype(float)).all():
            raise DataError(f"Column {c!r} must have finite numbers.")
    x = data.to_numpy(dtype=float)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    if (spread <= 1e-12 * np.abs(mean)).any():
        flat = data.columns[int(np.argmax(spread <= 1e-12 * np.abs(mean)))]
        raise DataError(f"Column {flat!r} has the same value for all customers and tells none from another.")
    return (x - mean) / spread


def segment_table(found):
    """A grouping as a table of the engine, checked."""
    if isinstance(found, pd.Series):
        found = pd.DataFrame({"customer_id": found.index, "segment": found.to_numpy()})
    lacking(found, ["customer_id", "segment"])
    if isinstance(found, pd.DataFrame):
        found = found[["customer_id", "segment"]].reset_index(drop=True)
        if isinstance(found["segment"].dtype, pd.CategoricalDtype):
            found = found.assign(segment=found["segment"].astype(object))
        found = ibis.memtable(found)
    found = found.select("customer_id", "segment")
    rows, gaps, names = (
        found.aggregate(
            rows=_.count(),
            gaps=(_.customer_id.isnull() | _.segment.isnull()).sum(),
            names=_.customer_id.nunique(),
        )
        .to_pyarrow()
        .to_pylist()[0]
        .values()
    )
    if not rows:
        raise DataError("There are no customers.")
    if gaps or names < rows:
        raise DataError(
            f"Each customer must have one segment: {gaps or 0:,} rows have no customer_id or no segment, and "
            f"{rows - names - (gaps or 0):,} repeat a customer."
        )
    return found


def _together(a, b):
    """Pairs of segments and how many customers have them; None where a table lacks the customer."""
    a, b = segment_table(a), segment_table(b)
    if a.customer_id.type().is_numeric() != b.customer_id.type().is_numeric():
        raise DataError(
            f"customer_id is {a.customer_id.type()} in one table and {b.customer_id.type()} in the other: convert one."
        )
    a, b = a.rename(before="segment"), b.rename(after="segment", other_id="customer_id")
    joined = a.outer_join(b, a.customer_id == b.other_id)
    counts = joined.group_by("before", "after").aggregate(customers=_.count()).to_pyarrow()
    return [tuple(row.values()) for row in counts.to_pylist()]


def _matrix(cells):
    """Counts by two segments, absent ones last; numbers stay numbers, which pandas would not do beside gaps."""

    def ordered(names):
        return sorted(set(names), key=lambda name: (name == ABSENT, isinstance(name, str), name))

    rows, columns = (
        pd.Index(ordered(cell[i] for cell in cells), name=name) for i, name in enumerate(("before", "after"))
    )
    table = pd.DataFrame(0, index=rows, columns=columns)
    for one, other, count in cells:
        table.loc[one, other] = count
    return table


def _noncentral(statistic, df):
    """95 % limits of the noncentrality of a chi-squared statistic."""

    def limit(q):
        if chi2.cdf(statistic, df) <= q:
            return 0.0
        top = statistic + 10 * np.sqrt(statistic + df) + 50
        return brentq(lambda size: ncx2.cdf(statistic, df, size) - q, 1e-9, top)

    return limit(0.975), limit(0.025)
