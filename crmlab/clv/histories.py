"""The likelihood over distinct states: what depends on a frequency and one time is computed once for each such pair."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from crmlab.clv.covariates import Clocks
from crmlab.clv.summary import DAYS

BLOCK = 1 << 13
"""States per block: what it needs stays in the processor's cache, and no sum is long enough to be shared by threads,
whose number would then show in the last digits."""


class Side(NamedTuple):
    """Distinct pairs of frequency and time, and where in them each state is."""

    x: np.ndarray
    t: np.ndarray
    row: np.ndarray
    at: np.ndarray


class Histories:
    """The histories of customers as a model sees them, by distinct pairs of frequency and time.

    Parameters
    ----------
    model : PurchaseModel
        The model.
    x, t_x, T : array_like, shape (n,)
        Frequency, recency and time observed.
    clocks : Clocks, optional
        Covariates and calendar; none by default.
    unit : str, optional
        Unit of time.
    weight : array_like, optional
        Customers in each state; one by default.
    """

    def __init__(self, model, x, t_x, T, clocks=None, unit=None, weight=None):
        x, t_x, T = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (x, t_x, T))
        self.model, self.x = model, x.astype(np.int64)
        self.clocks = clocks or Clocks.plain(len(x))
        self.weight = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=float)
        times, index = _distinct(np.concatenate([t_x, T]), unit)
        rows, n = self.clocks.row, self.clocks.rows
        self.gone = _side(self.x, index[: len(x)], times, rows, n)
        self.alive = _side(self.x, index[len(x) :], times, rows, n)
        self.size = len(self.x)

    @classmethod
    def of(cls, model, s, design, calendar, unit):
        """Return the histories of a table with `frequency`, `recency`, `T` and the columns of a design."""
        clocks = design.clocks(s, calendar, unit)
        columns = (s[c].to_numpy(dtype=float) for c in ("frequency", "recency", "T"))
        return cls(model, *columns, clocks, unit, s.get("weight"))

    def _paths(self, work):
        """U and V at their pairs, slopes by the coordinates, what covariates add; and the log weight of being alive."""
        y, extra = self.model.coordinates(work), work[len(self.model.names) :]
        sides = []
        for side in (self.gone, self.alive):
            scale, elapsed, by_rate = self.clocks.exposure(extra, side.row, side.t)
            sides.append((side.x, side.t, scale, elapsed, self.clocks.shift(extra, side.row), by_rate))
        (u, du), (v, dv), alive = self.model.paths(y, *(side[:5] for side in sides))
        return y, extra, (u, du, sides[0]), (v, dv, sides[1]), alive

    def _odds(self, y, u, v, gone, alive, part=slice(None)):
        """Log odds of having left, and for regular timing what the time since the last purchase adds to being alive."""
        odds = u[self.gone.at[part]] - v[self.alive.at[part]]
        if self.model.k == 1:
            return odds, None
        at_t, at_T = self.gone.at[part], self.alive.at[part]
        stretch = self.model.stretch(y, self.x[part], alive[3][at_T] - gone[3][at_t], alive[3][at_T])
        return odds - stretch[0], stretch

    def each(self, work):
        """Return the log-likelihood of each state."""
        y, extra, (u, _, gone), (v, _, alive), _ = self._paths(work)
        odds, stretch = self._odds(y, u, v, gone, alive)
        value = self.model.rising(y, self.x.max(initial=0))[0][self.x] + v[self.alive.at] + np.logaddexp(0, odds)
        value += self.model.k * self.x * self.clocks.log_rate(extra)[self.clocks.row]
        return value if stretch is None else value + stretch[0]

    def p_alive(self, work):
        """Return the probability that a customer of each state is alive."""
        y, _, (u, _, gone), (v, _, alive), here = self._paths(work)
        found = np.empty(self.size)
        for part in blocks(self.size):
            odds, stretch = self._odds(y, u, v, gone, alive, part)
            if here is v:
                found[part] = expit(-odds)
                continue
            at, more = self.alive.at[part], 0.0 if stretch is None else stretch[0]
            found[part] = np.exp(here[at] + more - np.logaddexp(u[self.gone.at[part]], v[at] + more))
        return np.minimum(found, 1.0)

    def phases(self, work):
        """Return, for regular timing, the chance of each number of phases since the last purchase, shape (k, n)."""
        if self.model.k == 1:
            return np.ones((1, self.size))
        y, _, (u, _, gone), (v, _, alive), _ = self._paths(work)
        return self._odds(y, u, v, gone, alive)[1][2]

    def objective(self, totals):
        """Return the mean log-likelihood and its gradient as a function of the working coordinates.

        Parameters
        ----------
        totals : ndarray
            Sums over repeat purchases of each column of the calendar, divided by nothing.
        """
        customers = self.weight.sum()
        shares = self.weight / customers
        share_x = np.bincount(self.x, shares)
        share_alive = np.bincount(self.alive.at, shares, minlength=len(self.alive.x))
        purchases = np.bincount(self.clocks.row, shares * self.x * self.model.k, minlength=self.clocks.rows)

        def loglike(work):
            y, extra, (u, du, gone), (v, dv, alive), _ = self._paths(work)
            rising, slope = self.model.rising(y, len(share_x) - 1)
            value = share_x @ rising + np.sum(share_alive * v)
            base = np.zeros(4)
            base[:2] = purchases.sum(), share_x @ slope
            left = np.empty(self.size)
            since = np.zeros(0)
            for part in blocks(self.size):
                odds, stretch = self._odds(y, u, v, gone, alive, part)
                small = np.exp(-np.abs(odds))
                share = shares[part]
                value += share @ (np.maximum(odds, 0) + np.log1p(small))
                left[part] = share * np.where(odds > 0, 1.0, small) / (1 + small)
                if stretch is not None:
                    value += share @ stretch[0]
                    base[:2] += stretch[1] @ (share - left[part])
                    since = np.concatenate([since, stretch[1][0] * (share - left[part])])
            at_gone = np.bincount(self.gone.at, left, minlength=len(u))
            at_alive = share_alive - np.bincount(self.alive.at, left, minlength=len(v))
            base += np.einsum("ji,i->j", du, at_gone) + np.einsum("ji,i->j", dv, at_alive)
            parts = [(self.gone, gone, du, at_gone), (self.alive, alive, dv, at_alive)]
            added = self.clocks.gradient(parts, purchases, since)
            if len(totals):
                value += extra[-len(totals) :] @ totals / customers
                added[-len(totals) :] += totals / customers
            value += purchases @ self.clocks.log_rate(extra)
            return value, np.concatenate([base[: len(self.model.names)], added])

        return loglike


def _distinct(values, unit):
    """Distinct times and where each value is among them; whole days, the usual case, need no sorting."""
    per = DAYS.get(unit, 1)
    days = np.empty(len(values), dtype=np.int64)
    for part in blocks(len(values)):
        exact = values[part] * per
        whole = np.rint(exact)
        if np.abs(exact - whole).max() > 1e-6 or whole.max() > 1e5:
            return np.unique(values, return_inverse=True)
        days[part] = whole
    return np.arange(days.max(initial=0) + 1) / per, days


def blocks(n):
    """Return slices that cover n rows: what a block needs stays in the processor's cache."""
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))


def _side(x, index, times, row, rows):
    """Pairs of frequency and time (on a clock) that occur, and which of them each state has."""
    cells = (int(x.max(initial=0)) + 1) * len(times) * rows
    key = x * len(times)
    key += index
    if rows > 1:
        key *= rows
        key += row
    if cells > 2 * len(x):
        key, cell = pd.factorize(key)
    else:
        cell = np.flatnonzero(np.bincount(key, minlength=cells))
        place = np.empty(cells, dtype=np.int64)
        place[cell] = np.arange(len(cell))
        key = place[key]
    return Side(cell // (len(times) * rows), times[cell // rows % len(times)], cell % rows, key)
