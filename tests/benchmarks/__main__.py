"""Time crmlab beside lifetimes on the same machine, data and optimum: `make bench`, or with --customers 100000.

Ratios are quoted, not seconds: the machine is shared and noisy. Each pair must reach the same log-likelihood.
"""

import time
import warnings

import click
import numpy as np
import pandas as pd

from crmlab import clv


def simulate(customers, seed=0):
    """Summaries of customers who buy and leave as BG/NBD says, two years of days; amounts as Gamma-Gamma says."""
    rng = np.random.default_rng(seed)
    T = rng.integers(1, 731, customers).astype(float)
    rate, p = rng.gamma(0.8, 1 / 30.0, customers), rng.beta(0.9, 2.5, customers)
    x, last, now = np.zeros(customers, int), np.zeros(customers), np.zeros(customers)
    alive = np.ones(customers, bool)
    while alive.any():
        now[alive] += np.ceil(rng.exponential(1 / rate[alive]))
        alive &= now <= T
        x[alive] += 1
        last[alive] = now[alive]
        alive &= rng.random(customers) >= p
    shape = np.maximum(6.0 * x, 1e-9)
    mean = rng.gamma(shape) / np.maximum(x, 1) / rng.gamma(4.0, size=customers) * 15.0
    frame = pd.DataFrame({"frequency": x, "recency": last, "T": T, "monetary_value": np.where(x > 0, mean, np.nan)})
    return frame.assign(unit="D")


def timed(function):
    """Seconds and result of the better of two calls."""
    best = np.inf
    for _ in range(2):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


@click.command(context_settings={"show_default": True})
@click.option("--customers", default=1_000_000, help="Simulated customers.")
def main(customers):
    """Print one line a task: seconds of both, their ratio, and the difference of the log-likelihoods."""
    warnings.simplefilter("ignore")
    from lifetimes import BetaGeoFitter, GammaGammaFitter

    frame = simulate(customers)
    payers = frame[frame["frequency"] > 0]
    click.echo(f"{customers:,} simulated customers, {len(clv.states(frame)):,} distinct states")
    click.echo(f"{'':28}{'crmlab':>10}{'lifetimes':>11}{'ratio':>8}   difference of log-likelihood")

    def line(task, ours, theirs, difference):
        click.echo(f"{task:28}{ours:9.2f}s{theirs:10.2f}s{theirs / ours:7.0f}×   {difference:.1e}")

    ours, bg = timed(lambda: clv.BGNBD().fit(frame))
    theirs, peer = timed(lambda: BetaGeoFitter().fit(frame["frequency"], frame["recency"], frame["T"]))
    at_peer = clv.BGNBD().loglike(peer.params_, frame["frequency"], frame["recency"], frame["T"]).sum()
    line("BG/NBD fit", ours, theirs, bg.llf - at_peer)
    ours, gg = timed(lambda: clv.GammaGamma().fit(payers))
    theirs, peer_gg = timed(lambda: GammaGammaFitter().fit(payers["frequency"], payers["monetary_value"]))
    at_peer = clv.GammaGamma().loglike(peer_gg.params_, payers["frequency"], payers["monetary_value"]).sum()
    line("Gamma-Gamma fit", ours, theirs, gg.llf - at_peer)
    ours, _ = timed(lambda: bg.predict(frame, horizon=365.0, annual_discount=0.1, spend=gg))
    spent = frame["monetary_value"].fillna(0.0)
    theirs, _ = timed(
        lambda: peer_gg.customer_lifetime_value(
            peer, frame["frequency"], frame["recency"], frame["T"], spent, time=12, discount_rate=0.008, freq="D"
        )
    )
    line("discounted 12-month value", ours, theirs, 0.0)


if __name__ == "__main__":
    main()
