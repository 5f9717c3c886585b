"""What all models of repeat buying share: the fit to distinct states, with or without covariates."""

import dataclasses

import numpy as np

from crmlab.clv import fit as _fit
from crmlab.clv import predict as _predict
from crmlab.clv.covariates import Design
from crmlab.clv.histories import Histories
from crmlab.clv.summary import states, unit_of
from crmlab.data.errors import DataError

PILOT = 10_000
"""A fit to more states than this begins with a sample of them."""


@dataclasses.dataclass(frozen=True)
class PurchaseModel:
    r"""A model in which customers buy at a rate of their own until they leave.

    The history of a customer is one of two: the last purchase, at :math:`t_x`, was the last for ever, or the customer
    is alive at :math:`T` (and, where one may leave at any moment, will buy again). So for every model here

    .. math:: \log L = A(x) + \log\big(e^{U(x, t_x)} + e^{V(x, T)}\big),

    and what is costly depends on a pair of a frequency and one time: it is computed once for each distinct pair. A
    subclass gives `paths` (U and V with their slopes), `future` and `draw_future`.
    """

    depends = ((), ("r", "alpha"), (), ())
    limits = ((1,), (2, 3), (3,))
    k = 1

    def coordinates(self, work):
        """Return the four working coordinates (log m, log φ, dropout, log dispersion of dropout) of a vector."""
        return work[:4]

    def bend(self, y):
        """Return the rate at which the past loses weight: predictions are smooth in log(1 + bend T)."""
        return np.exp(y[0] + y[1])

    def rising(self, y, top):
        """Return A(x) for x = 0 … top and its slope by log φ; that by log m is kx."""
        i = np.arange(self.k * top, dtype=float)
        phi = np.exp(y[1])
        table = np.concatenate([[0.0], np.cumsum(np.log1p(i * phi))])[:: self.k]
        slope = np.concatenate([[0.0], np.cumsum(i * phi / (1 + i * phi))])[:: self.k]
        return table + self.k * np.arange(top + 1) * y[0], slope

    def loglike(self, params, x, t_x, T):
        """Return the log-likelihood of each customer.

        Parameters
        ----------
        params : array_like
            Parameters as in `names`, all finite and positive.
        x, t_x, T : array_like, shape (n,)
            Frequency, recency and time observed; recency and T in the same unit.

        Returns
        -------
        ndarray, shape (n,)
            Log-likelihoods on the scale of T.

        Examples
        --------
        >>> from crmlab import clv
        >>> clv.BGNBD().loglike([0.25, 4, 0.8, 2.5], [0], [0], [40]).round(8)
        array([-0.59947382])
        """
        return Histories(self, x, t_x, T).each(self.work(params))

    def p_alive(self, params, x, t_x, T):
        """Return the probability that each customer has not left by T.

        Parameters
        ----------
        params : array_like
            Parameters as in `names`, all finite and positive.
        x, t_x, T : array_like, shape (n,)
            Frequency, recency and time observed.

        Returns
        -------
        ndarray, shape (n,)
            Probabilities.

        Examples
        --------
        >>> from crmlab import clv
        >>> clv.MBGNBD().p_alive([0.525, 6.183, 0.891, 1.614], [2], [30.43], [38.86]).round(3)
        array([0.706])
        """
        return Histories(self, x, t_x, T).p_alive(self.work(params))

    def fit(self, data, unit=None, rate=None, dropout=None, calendar=None, cov_type="nonrobust"):
        r"""Fit the model by maximum likelihood.

        Parameters
        ----------
        data : ibis.Table or pandas.DataFrame
            A summary (`crmlab.clv.summarize`) or its states (`crmlab.clv.states`).
        unit : str, optional
            Unit of time when the data do not carry it in a column `unit`.
        rate, dropout : str, optional
            Formulas over columns of the data, such as ``"~ channel + gender"``. The first multiplies the purchase rate
            by :math:`e^{\gamma'z}`; the second moves the logit of the mean probability of leaving (BG/NBD, MBG/NBD) or
            the log of the hazard of leaving (Pareto/NBD) by :math:`\delta'z`.
        calendar : pandas.DataFrame, optional
            Known influences on everybody, one row a day, for example `crmlab.clv.month_calendar`: each column
            multiplies the purchase rate of the day by :math:`e^{\gamma z}`. The data must be summarized with the same
            calendar. Only where leaving goes with purchases (BG/NBD, MBG/NBD, NBD).
        cov_type : {"nonrobust", "robust"}
            Covariance of the estimates: inverse information, or the sandwich that does not trust the model.

        Returns
        -------
        crmlab.clv.Result
            Estimates, standard errors, log-likelihood; a `RuntimeWarning` if the maximum was not found.

        Raises
        ------
        DataError
            A summary, a formula or a calendar that cannot be used, with every reason.
        """
        if cov_type not in ("nonrobust", "robust"):
            raise DataError(f"cov_type must be 'nonrobust' or 'robust', not {cov_type!r}.")
        design = Design(rate, dropout, None if calendar is None else tuple(map(str, calendar.columns)))
        self._accepts(design)
        s = states(data, [*design.columns(), *(["calibration_end"] if design.calendar else [])])
        design = design.learn(s)
        histories = Histories.of(self, s, design, calendar, unit or unit_of(s))
        totals = design.totals(data)
        constant = self._timing(data)
        x, w = s["frequency"].to_numpy(), s["weight"].to_numpy(dtype=float)
        start = np.concatenate([self._start(x @ w, s["T"].to_numpy() @ w, w.sum()), np.zeros(len(design.names()))])
        pilot = None
        if len(s) > PILOT:
            part = slice(None, None, -(-len(s) // PILOT))
            sample = Histories.of(self, s.iloc[part], design, calendar, unit or unit_of(s))
            pilot = sample.objective(totals * w[part].sum() / w.sum())
        return _fit.result(
            self,
            histories.objective(totals),
            start,
            w,
            unit or unit_of(s),
            limits=self.limits,
            constant=constant,
            pilot=pilot,
            design=design,
            scores=histories.each if cov_type == "robust" else None,
        )

    def _accepts(self, design):
        if design.calendar and not self.operational:
            raise DataError(f"{self.title} knows no calendar: its customers leave by the clock, not after purchases.")

    def _timing(self, data):
        return 0.0

    def predict(self, result, data, **options):
        """Return predictions for customers; see `crmlab.clv.predict.predict`."""
        return _predict.predict(result, data, **options)

    def simulate(self, result, data, **options):
        """Return simulated futures of customers; see `crmlab.clv.predict.simulate`."""
        return _predict.simulate(result, data, **options)

    def pmf(self, result, data, **options):
        """Return probabilities of numbers of purchases; see `crmlab.clv.predict.pmf`."""
        return _predict.pmf(result, data, **options)
