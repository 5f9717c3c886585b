"""Simulated customers for tests: purchase by purchase, as the stories of the models tell it and unlike any formula."""

import dataclasses

import numpy as np
import pandas as pd


def customers(name, params, n, T, seed, k=1, rate=1.0, shift=0.0):
    """Return summaries of n customers observed for T; `rate` multiplies their rates, `shift` moves their dropout."""
    rng = np.random.default_rng(seed)
    lam = rng.gamma(params[0], size=n) / params[1] * rate
    p, death = np.zeros(n), np.full(n, np.inf)
    if name == "ParetoNBD":
        death = rng.exponential(size=n) / (rng.gamma(params[2], size=n) / params[3] * np.exp(shift))
    elif name != "NBD":
        total = params[2] + params[3]
        mean = 1 / (1 + params[3] / params[2] * np.exp(-np.broadcast_to(shift, n)))
        p = rng.beta(mean * total, (1 - mean) * total)
    x, last, now, gaps = np.zeros(n, int), np.zeros(n), np.zeros(n), np.zeros(n)
    T = np.broadcast_to(np.asarray(T, dtype=float), n)
    alive = rng.random(n) >= p if name.startswith("M") else np.ones(n, bool)
    while alive.any():
        with np.errstate(divide="ignore"):
            gap = np.where(alive, rng.gamma(k, size=n) / np.maximum(lam, 1e-300), 0.0)
        now = now + gap
        alive &= (now <= T) & (now <= death)
        x[alive] += 1
        gaps[alive] += np.log(gap[alive])
        last[alive] = now[alive]
        alive &= rng.random(n) >= p
    return pd.DataFrame({"frequency": x, "recency": last, "T": T, "log_gaps": gaps})


def certain(result):
    """Return a result whose parameters are known for sure, so that simulations vary by chance alone."""
    return dataclasses.replace(result, work_cov=np.eye(len(result.work)) * 1e-18)
