"""Time crmlab beside lifetimes on the same machine, data and optimum: `make bench`, or with --customers 100000.

Ratios are quoted, not seconds: the machine is shared and noisy. Every task runs in a process of its own that inherits
imports and data; the better of two runs counts. Memory is what a task needs beyond them at its peak.
"""

import json
import multiprocessing
import resource
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import click
import numpy as np
import pandas as pd

from crmlab import clv

SAME = 1e-3
"""Two optima are the same one when their log-likelihoods, summed over all customers, differ by less."""

SLOW = 60.0
"""Whatever takes longer runs once."""

PYMC = """
import json, sys, time, numpy, pandas
from pymc_marketing.clv import BetaGeoModel
data = pandas.DataFrame(dict(numpy.load(sys.argv[1]))).rename_axis("customer_id").reset_index()
start = time.perf_counter()
model = BetaGeoModel()
model.fit(data, method="map", progressbar=False)
found = model.idata.posterior
print(json.dumps([time.perf_counter() - start] + [float(found[name].mean()) for name in ("r", "alpha", "a", "b")]))
"""


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


def simulate_log(rows, seed=0):
    """Purchases of two years, ten a customer on average; some customers buy much more often than others."""
    rng = np.random.default_rng(seed)
    weight = rng.gamma(1.0, size=max(rows // 10, 1))
    who = rng.choice(len(weight), rows, p=weight / weight.sum())
    date = pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 731, rows), unit="D")
    return pd.DataFrame({"customer_id": who, "date": date, "amount": rng.gamma(2.0, 10.0, rows).round(2) + 0.01})


def measured(task, setup=lambda: ()):
    """Seconds, megabytes and answer of a task in a process of its own; an exception is its answer."""
    fork = multiprocessing.get_context("fork")
    receive, send = fork.Pipe(duplex=False)

    def child():
        try:
            ready = setup()
            before, best = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, np.inf
            for _ in range(2):
                start = time.perf_counter()
                answer = task(*ready)
                best = min(best, time.perf_counter() - start)
                if best > SLOW:
                    break
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            send.send((best, (peak - before) / 1024, answer))
        except Exception as error:
            send.send((np.nan, np.nan, error))

    process = fork.Process(target=child)
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return np.nan, np.nan, RuntimeError("the process died, perhaps for want of memory")
    finally:
        process.join()


def line(task, target, ours, theirs, difference):
    """Print the comparison of one task; `difference` judges the two answers, or is None."""
    for name, (_, _, answer) in {"crmlab": ours, "the peer": theirs}.items():
        if isinstance(answer, Exception):
            click.echo(f"{task:34} {name} failed: {answer!r}")
            return
    ratio = theirs[0] / ours[0]
    reached = "" if target is None else f"≥ {target}: {'yes' if ratio >= target else 'NO'}"
    same = "" if difference is None else difference(ours[2], theirs[2])
    seconds, memory = f"{ours[0]:9.3f} {theirs[0]:9.2f}", f"{ours[1]:7.0f} {theirs[1]:7.0f}"
    click.echo(f"{task:34}{seconds} {ratio:7.1f}  {reached:12}{memory}   {same}")


def gap(model, *data):
    """Judge two estimates by crmlab's own log-likelihood."""

    def judge(ours, theirs):
        found = model.loglike(ours, *data).sum() - model.loglike(theirs, *data).sum()
        return f"log-likelihood {found:+.1e}" + ("" if abs(found) < SAME else ": different optimum")

    return judge


def totals(ours, theirs):
    """Judge two summaries by their customers and purchases."""
    return "same totals" if np.allclose(ours, theirs) else f"DIFFERENT totals: {ours} and {theirs}"


def with_pymc(python, frame):
    """Maximum a posteriori of BG/NBD by pymc-marketing in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "summary.npz"
        np.savez(file, **{name: frame[name].to_numpy() for name in ("frequency", "recency", "T")})
        done = subprocess.run([python, "-c", PYMC, str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        return np.nan, np.nan, RuntimeError((done.stderr.strip() or "no message").splitlines()[-1])
    seconds, *params = json.loads(done.stdout.splitlines()[-1])
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, params


@click.command(context_settings={"show_default": True})
@click.option("--customers", default=1_000_000, help="Simulated customers.")
@click.option("--pareto-customers", type=int, help="Customers of the Pareto/NBD fit; by default all of them.")
@click.option("--rows", default=1_000_000, help="Rows of the purchase log.")
@click.option("--pymc", help="Python of an environment with pymc-marketing, to be timed too.")
def main(customers, pareto_customers, rows, pymc):
    """Print one line a task: seconds, their ratio and its target, megabytes, and whether the answers agree."""
    warnings.simplefilter("ignore")
    import lifetimes
    from lifetimes import utils

    frame, log = simulate(customers), simulate_log(rows)
    named = log.assign(customer_id="C" + log["customer_id"].astype(str).str.zfill(9))
    payers = frame[frame["frequency"] > 0]
    some = frame.head(pareto_customers or customers)
    states = measured(lambda: len(clv.states(frame)))[2]
    click.echo(f"{customers:,} simulated customers in {states} distinct states; a log of {len(log):,} rows")
    click.echo(f"{'':34}{'crmlab s':>9} {'peer s':>9} {'ratio':>7}  {'target':12}{'MB':>7} {'MB':>7}")

    def fit_both(name, target, model, peer, data, columns):
        given = [data[column] for column in columns]
        ours = measured(lambda: model.fit(data).params.to_numpy())
        theirs = measured(lambda: peer().fit(*given).params_.to_numpy())
        line(name, target, ours, theirs, gap(model, *given))
        return ours

    triple = ["frequency", "recency", "T"]
    ours = fit_both("BG/NBD fit", 45, clv.BGNBD(), lifetimes.BetaGeoFitter, frame, triple)
    if pymc:
        theirs = with_pymc(pymc, frame)
        line("BG/NBD fit, pymc-marketing", None, ours, theirs, gap(clv.BGNBD(), *map(frame.get, triple)))
    fit_both("MBG/NBD fit", None, clv.MBGNBD(), lifetimes.ModifiedBetaGeoFitter, frame, triple)
    spending = ["frequency", "monetary_value"]
    fit_both("Gamma-Gamma fit", 30, clv.GammaGamma(), lifetimes.GammaGammaFitter, payers, spending)

    spent = frame["monetary_value"].fillna(0.0)
    value = {"time": 12, "discount_rate": 0.008, "freq": "D"}
    ours = measured(
        lambda bg, gg: bg.predict(frame, horizon=360.0, annual_discount=0.1, spend=gg)["clv"].sum(),
        lambda: (clv.BGNBD().fit(frame), clv.GammaGamma().fit(payers)),
    )
    theirs = measured(
        lambda bg, gg: gg.customer_lifetime_value(bg, *map(frame.get, triple), spent, **value).sum(),
        lambda: (
            lifetimes.BetaGeoFitter().fit(*map(frame.get, triple)),
            lifetimes.GammaGammaFitter().fit(*map(payers.get, spending)),
        ),
    )
    line("discounted 12-month value", 150, ours, theirs, lambda a, b: f"sum {a / b - 1:+.2%} (theirs monthly)")

    kept = ["frequency_cal", "recency_cal", "T_cal", "frequency_holdout"]
    for kind, table in {"integers": log, "strings": named}.items():
        ours = measured(lambda t=table: clv.summarize(t, "D", "2023-12-31").to_pandas()[[*triple, kept[-1]]].sum())
        theirs = measured(
            lambda t=table: utils.calibration_and_holdout_data(
                t, "customer_id", "date", "2023-12-31", monetary_value_col="amount"
            )[kept].sum()
        )
        line(f"hold-out split, ids as {kind}", 15, ours, theirs, totals)
    for kind, table in {"integers": log, "strings": named}.items():
        ours = measured(lambda t=table: clv.summarize(t, "D").to_pandas()[triple].sum())
        theirs = measured(
            lambda t=table: utils.summary_data_from_transaction_data(
                t, "customer_id", "date", monetary_value_col="amount"
            )[triple].sum()
        )
        line(f"summary of the log, ids as {kind}", None, ours, theirs, totals)

    if len(some) > 100_000:
        click.echo(f"Pareto/NBD: lifetimes takes many minutes for {len(some):,} customers (--pareto-customers 100000).")
    fit_both("Pareto/NBD fit", 150, clv.ParetoNBD(), lifetimes.ParetoNBDFitter, some, triple)


if __name__ == "__main__":
    main()
