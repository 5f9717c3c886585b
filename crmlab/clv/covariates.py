"""Covariates of customers by formula, and calendars that everybody lives by."""

import dataclasses
import re

import ibis
import numpy as np
import pandas as pd

from crmlab.clv.summary import DAYS, require
from crmlab.data.errors import DataError


@dataclasses.dataclass(frozen=True)
class Design:
    """Which covariates a fit has: formulas, what their columns mean, and the columns of a calendar.

    Attributes
    ----------
    rate, dropout : str or None
        Formulas.
    calendar : tuple of str or None
        Columns of the calendar.
    levels : dict
        Values of each column that is not a number, in their order.
    terms : tuple of tuple of str
        Columns of the design matrices of rate and dropout.
    """

    rate: str | None = None
    dropout: str | None = None
    calendar: tuple | None = None
    levels: dict = dataclasses.field(default_factory=dict)
    terms: tuple = ((), ())

    @classmethod
    def of(cls, facts):
        """Return the design that `dataclasses.asdict` and JSON made plain."""
        calendar, terms = facts["calendar"], facts["terms"]
        return cls(**facts | {"calendar": calendar and tuple(calendar), "terms": tuple(map(tuple, terms))})

    def columns(self):
        """Return the columns of the data that the formulas use, sorted."""
        found = set()
        for text in (self.rate, self.dropout):
            if text is not None:
                found |= _variables(text)
        return sorted(found)

    def names(self):
        """Return the names of the coefficients."""
        rate, dropout = self.terms
        calendar = [f"calendar: {c}" for c in self.calendar or ()]
        return [*(f"rate: {t}" for t in rate), *(f"dropout: {t}" for t in dropout), *calendar]

    def learn(self, frame):
        """Return the design with the levels and terms that a table of customers gives it."""
        levels = {
            c: sorted(frame[c].dropna().unique().tolist())
            for c in self.columns()
            if not pd.api.types.is_numeric_dtype(frame[c]) or pd.api.types.is_bool_dtype(frame[c])
        }
        learned = dataclasses.replace(self, levels=levels)
        first = frame[self.columns()].drop_duplicates()
        terms = tuple(tuple(learned._matrix(text, first).columns) for text in (self.rate, self.dropout))
        learned = dataclasses.replace(learned, terms=terms)
        for text in (self.rate, self.dropout):
            matrix = learned._matrix(text, first)
            full = matrix.assign(one=1.0).to_numpy()
            if len(matrix.columns) and np.linalg.matrix_rank(full) < full.shape[1]:
                raise DataError(
                    f"The columns of {text!r} ({', '.join(matrix.columns)}) repeat one another or do not vary: "
                    "their effects cannot be told apart."
                )
        return learned

    def _matrix(self, text, frame):
        """Columns of a formula without its constant, which the parameters of the model already are."""
        if text is None:
            return pd.DataFrame(index=frame.index)
        import formulaic

        frame = frame.copy()
        for c, values in self.levels.items():
            unknown = sorted({str(v) for v in frame[c].dropna().unique() if v not in values})
            if unknown:
                raise DataError(f"Column {c!r} has values that the fit has not seen: {', '.join(unknown[:5])}.")
            frame[c] = pd.Categorical(frame[c], categories=values)
        if gaps := [c for c in self.columns() if frame[c].isna().any()]:
            raise DataError(
                f"Covariates must not be missing, but {', '.join(gaps)} have gaps: give gaps a value of their own."
            )
        try:
            matrix = formulaic.model_matrix(text, frame)
        except Exception as error:
            raise DataError(f"The formula {text!r} cannot be applied to the data: {error}") from error
        return pd.DataFrame(matrix, index=frame.index).drop(columns="Intercept", errors="ignore").astype(float)

    def totals(self, data):
        """Return the sums over all repeat purchases of each column of the calendar."""
        names = [f"calendar_{c}" for c in self.calendar or ()]
        if not names:
            return np.zeros(0)
        if missing := [c for c in names if c not in data.columns]:
            raise DataError(f"The summary lacks {', '.join(missing)}: summarize(log, calendar=calendar) makes it.")
        if isinstance(data, ibis.Table):
            return data.aggregate(**{c: data[c].sum() for c in names}).to_pandas().iloc[0].to_numpy(dtype=float)
        weight = data["weight"].to_numpy() if "weight" in data else 1.0
        return np.array([(data[c] * weight).sum() for c in names], dtype=float)

    def clocks(self, frame, calendar, unit):
        """Return the clocks of the customers of a table.

        Parameters
        ----------
        frame : pandas.DataFrame
            Has the columns of the formulas, and for a calendar `T` and `calibration_end`.
        calendar : pandas.DataFrame or None
            One row a day.
        unit : str or None
            Unit of time.

        Returns
        -------
        Clocks
            Which clock each customer lives by.
        """
        keys, days = self.columns(), None
        require(frame, keys)
        begun = pd.DataFrame(index=frame.index)
        if self.calendar:
            require(frame, ["calibration_end"])
            if unit not in DAYS:
                raise DataError("A calendar needs the unit of time of the data.")
            if calendar is None:
                raise DataError("The model was fitted with a calendar: hand it the calendar here too (calendar=…).")
            days = calendar[list(self.calendar)].to_numpy(dtype=float)
            today = (pd.to_datetime(frame["calibration_end"]) - calendar.index[0]).dt.days
            begun["_begun"] = (today - np.rint(frame["T"] * DAYS[unit])).astype(np.int64)
            if begun["_begun"].min() < 0 or today.max() >= len(calendar):
                raise DataError("The calendar does not cover the time from the first purchase to calibration_end.")
        if not keys and days is None:
            return Clocks.plain(len(frame))
        key = pd.concat([frame[keys], begun], axis=1)
        row = key.groupby(list(key.columns), sort=True, observed=True, dropna=False).ngroup().to_numpy()
        first = key.assign(_row=row).drop_duplicates("_row").sort_values("_row")
        rate, dropout = (self._matrix(text, first[keys]).to_numpy() for text in (self.rate, self.dropout))
        start = first["_begun"].to_numpy() if days is not None else None
        return Clocks(row, len(first), rate, dropout, start, days, DAYS.get(unit, 1))


@dataclasses.dataclass(frozen=True)
class Clocks:
    r"""How time passes for customers: a rate that covariates and the calendar stretch or shrink.

    With a multiplier :math:`e^{\gamma'z(t)}` on the purchase rate, purchases arrive as without it in operational time
    :math:`\Lambda(t) = \int_0^t e^{\gamma'z(u)}\,du`, and whoever leaves after purchases does so on that clock too.

    Attributes
    ----------
    row : ndarray of int, shape (n,)
        Which clock a customer lives by.
    rows : int
        Number of distinct clocks.
    rate, dropout : ndarray, shape (rows, …)
        Covariates of each clock.
    start : ndarray of int or None
        Day of the calendar on which the clock begins.
    days : ndarray or None
        The calendar, one row a day.
    per : float
        Days in a unit of time.
    """

    row: np.ndarray
    rows: int
    rate: np.ndarray
    dropout: np.ndarray
    start: np.ndarray | None = None
    days: np.ndarray | None = None
    per: float = 1.0

    @classmethod
    def plain(cls, n):
        """Return one clock, that of time itself, for n customers."""
        return cls(np.zeros(n, dtype=np.int64), 1, np.zeros((1, 0)), np.zeros((1, 0)))

    def _split(self, extra):
        one, two = self.rate.shape[1], self.rate.shape[1] + self.dropout.shape[1]
        return extra[:one], extra[one:two], extra[two:]

    def log_rate(self, extra):
        """Return what covariates add to the log of the purchase rate on each clock."""
        return self.rate @ self._split(extra)[0]

    def shift(self, extra, row):
        """Return what covariates add to the coordinate of dropout: 0.0 where there are none."""
        return (self.dropout @ self._split(extra)[1])[row] if self.dropout.shape[1] else 0.0

    def passed(self, extra):
        """Return the operational time at the end of each day of the calendar, and its slopes."""
        pace = np.exp(self.days @ self._split(extra)[2]) / self.per
        total = np.concatenate([[0.0], np.cumsum(pace)])
        slopes = np.vstack([np.zeros(self.days.shape[1]), np.cumsum(pace[:, None] * self.days, axis=0)])
        return total, slopes

    def exposure(self, extra, row, t):
        """Return the static multiplier, the operational time after t, and its log-slopes by the rate coefficients."""
        scale = np.exp(self.rate @ self._split(extra)[0])[row] if self.rate.shape[1] else 1.0
        if self.days is None:
            return scale, scale * t, self.rate[row].T
        total, slopes = self.passed(extra)
        first = self.start[row] + 1
        last = first + np.rint(t * self.per).astype(np.int64)
        elapsed = total[last] - total[first]
        safe = np.where(elapsed > 0, elapsed, 1.0)
        return scale, scale * elapsed, np.vstack([self.rate[row].T, (slopes[last] - slopes[first]).T / safe])

    def gradient(self, parts, purchases, since):
        """Return the slopes of the mean log-likelihood by the coefficients.

        Parameters
        ----------
        parts : list of tuple
            For either side its pairs, what `Histories` knows of them, slopes by the coordinates, and their weights.
        purchases : ndarray, shape (rows,)
            Purchases times share by clock.
        since : ndarray
            Slope by the log of the rate of what the time since the last purchase adds (regular timing only).
        """
        rate, dropout = self.rate.shape[1], self.dropout.shape[1]
        calendar = 0 if self.days is None else self.days.shape[1]
        found = np.zeros(rate + dropout + calendar)
        for side, known, slopes, weight in parts:
            by_rate = np.einsum("ji,i->j", known[5], slopes[0] * weight)
            found[:rate] += by_rate[:rate]
            found[rate + dropout :] += by_rate[rate:]
            if dropout:
                found[rate : rate + dropout] += np.einsum("i,ij->j", slopes[2] * weight, self.dropout[side.row])
        found[:rate] += purchases @ self.rate
        if len(since):
            found[:rate] += np.einsum("i,ij->j", since, self.rate[self.row])
        return found


def _variables(text):
    """Columns that a formula uses; imported here because most fits have none and the import takes a second."""
    import formulaic
    from formulaic.transforms import TRANSFORMS

    learning = [name for name, f in TRANSFORMS.items() if name != "Q" and getattr(f, "__is_stateful_transform__", 0)]
    if re.search(rf"\b({'|'.join(learning)})\s*\(", text):
        raise DataError(
            f"{text!r} transforms a column by its own mean, spread or range, which other customers do not have: "
            "compute that column first and name it in the formula."
        )
    try:
        return set(map(str, formulaic.Formula(text).required_variables))
    except Exception as error:
        raise DataError(f"The formula {text!r} cannot be read: {error}") from error
