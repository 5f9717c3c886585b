"""The arithmetic of path models with composites (PLS), for many covariance matrices at once.

The last axis of every array counts the replicates, so that each step is one operation on all of them.
"""

from typing import NamedTuple

import numpy as np

SCHEMES = ("path", "factorial", "centroid")
LIMIT = 300
"""Iterations before the search for weights gives up."""

SINGULAR = 1e-9
"""A predictor of which the others leave less than this share of variance is their combination."""


class Estimates(NamedTuple):
    """What a model finds in each of `b` covariance matrices.

    Attributes
    ----------
    weights, loadings : numpy.ndarray, shape (items, b)
        Weights of the items (composites have variance 1) and their correlations with the construct; corrected for
        attenuation where the model asks for it.
    correlations : numpy.ndarray, shape (constructs, constructs, b)
        Between constructs; likewise corrected.
    rho_a : numpy.ndarray, shape (constructs, b)
        Reliability of the composites after Dijkstra and Henseler; 1 for single items, missing for Mode B.
    paths : numpy.ndarray, shape (edges, b)
        Standardized coefficients.
    r2 : numpy.ndarray, shape (constructs, b)
        Missing for constructs without cause.
    iterations : numpy.ndarray, shape (b,)
        Until no weight changed any more; 0 where that did not happen.
    """

    weights: np.ndarray
    loadings: np.ndarray
    correlations: np.ndarray
    rho_a: np.ndarray
    paths: np.ndarray
    r2: np.ndarray
    iterations: np.ndarray


def estimate(S, model, scheme="path", tolerance=1e-10, reference=None):
    r"""Estimate a path model from covariance (or correlation) matrices.

    In turn, each construct is estimated from its items, :math:`y_j = X_j w_j`, and from its neighbours,
    :math:`z_j = \sum_k e_{jk} y_k`, until the weights rest: :math:`w_j \propto X_j' z_j` (Mode A) or
    :math:`(X_j'X_j)^{-1} X_j' z_j` (Mode B).

    Parameters
    ----------
    S : numpy.ndarray, shape (items, items, b)
        Covariances of the items.
    model : Structure
        The model.
    scheme : {"path", "factorial", "centroid"}
        What the inner weights :math:`e` are: regression on causes and correlation with outcomes; correlations; signs of
        correlations.
    tolerance : float
        Largest change of a weight at which the search ends.
    reference : numpy.ndarray, shape (items,), optional
        Weights whose composites the signs follow; without them, the loadings of a construct sum to something positive.

    Returns
    -------
    Estimates
        Missing where a matrix allows no estimate.
    """
    S = np.asarray(S, dtype=float)
    weights, iterations = _weights(S, model, scheme, tolerance)
    V = _with_constructs(S, weights, model)
    spread = np.sqrt(np.einsum("iib->ib", S))
    for j, block in enumerate(model.blocks):
        along = V[block, j] / spread[block] if reference is None else V[block, j] * reference[block, None]
        turn = np.where(along.sum(axis=0) < 0, -1.0, 1.0)
        weights[block] *= turn
        V[:, j] *= turn
    Q = _between(V, weights, model)
    loadings = np.concatenate([V[block, j] for j, block in enumerate(model.blocks)]) / spread
    rho = np.ones((len(model.blocks), S.shape[-1]))
    for j, block in enumerate(model.blocks):
        if model.formative[j]:
            rho[j] = np.nan
        elif len(block) > 1:
            rho[j], unit = _rho_a(S[np.ix_(block, block)], weights[block])
            if model.consistent[j]:
                loadings[block] = weights[block] * unit / spread[block]
                with np.errstate(divide="ignore", invalid="ignore"):
                    root = np.sqrt(rho[j])
                    Q[j], Q[:, j] = Q[j] / root, Q[:, j] / root
                Q[j, j] = np.where(np.isnan(root), np.nan, 1.0)
    paths, r2 = regressions(Q, model)
    return Estimates(weights, loadings, Q, rho, paths, r2, iterations)


def _weights(S, model, scheme, tolerance):
    """The weights at rest; matrices that are done leave the queue."""
    p, b = len(model.items), S.shape[-1]
    result, iterations = np.full((p, b), np.nan), np.zeros(b, dtype=int)
    queue = np.arange(b)
    inverse = {j: _inverse(S[np.ix_(block, block)]) for j, block in enumerate(model.blocks) if model.formative[j]}
    w = 1 / np.sqrt(np.einsum("iib->ib", S))
    w, V = _scaled(S, w, model)
    for step in range(1, LIMIT + 1):
        E = _inner(_between(V, w, model), model, scheme)
        new = np.empty_like(w)
        for j, block in enumerate(model.blocks):
            near = [k for k in range(len(model.blocks)) if (k, j) in model.edges or (j, k) in model.edges]
            towards = sum(V[block, k] * E[k, j] for k in near)
            new[block] = np.einsum("ikb,kb->ib", inverse[j], towards) if j in inverse else towards
            # A construct turned around is the same construct.
            new[block] *= np.where((new[block] * V[block, j]).sum(axis=0) < 0, -1.0, 1.0)
        new, V = _scaled(S, new, model)
        change = np.abs(new - w).max(axis=0)
        w = new
        # A weight that is not a number will never rest.
        done = ~(change >= tolerance)
        result[:, queue[done]] = w[:, done]
        iterations[queue[done]] = np.where(np.isnan(change[done]), 0, step)
        if done.all():
            break
        if done.any():
            left = ~done
            queue, w, V, S = queue[left], w[:, left], V[..., left], S[..., left]
            inverse = {j: part[..., left] for j, part in inverse.items()}
    return result, iterations


def _scaled(S, w, model):
    """Weights that give each composite variance 1, and its covariances with all items."""
    V = _with_constructs(S, w, model)
    w = w.copy()
    for j, block in enumerate(model.blocks):
        with np.errstate(divide="ignore", invalid="ignore"):
            size = 1 / np.sqrt((V[block, j] * w[block]).sum(axis=0))
        w[block] *= size
        V[:, j] *= size
    return w, V


def _with_constructs(S, w, model):
    """Covariances of items with composites, (items, constructs, b)."""
    return np.stack([np.einsum("pib,ib->pb", S[:, block], w[block]) for block in model.blocks], axis=1)


def _between(V, w, model):
    """Covariances of composites, (constructs, constructs, b)."""
    return np.stack([np.einsum("ikb,ib->kb", V[block], w[block]) for block in model.blocks])


def _inner(Q, model, scheme):
    """Weight of the neighbour in the first place for the construct in the second."""
    E = np.zeros_like(Q)
    for i, j in model.edges:
        E[i, j] = E[j, i] = np.sign(Q[i, j]) if scheme == "centroid" else Q[i, j]
    if scheme == "path":
        for j in model.outcomes:
            causes = model.causes(j)
            if len(causes) > 1:
                E[causes, j] = solve(Q[np.ix_(causes, causes)], Q[causes, j])
    return E


def regressions(Q, model):
    """Return the coefficients of all paths and the share of variance that they explain.

    Parameters
    ----------
    Q : numpy.ndarray, shape (constructs, constructs, b)
        Correlations of constructs.
    model : Structure
        The model.

    Returns
    -------
    paths : numpy.ndarray, shape (edges, b)
        Standardized coefficients.
    r2 : numpy.ndarray, shape (constructs, b)
        Missing for constructs without cause.
    """
    paths, r2 = np.empty((len(model.edges), Q.shape[-1])), np.full(Q.shape[1:], np.nan)
    for j in model.outcomes:
        causes = model.causes(j)
        beta = solve(Q[np.ix_(causes, causes)], Q[causes, j])
        paths[[model.edges.index((i, j)) for i in causes]] = beta
        r2[j] = (beta * Q[causes, j]).sum(axis=0)
    return paths, r2


def raw_paths(paths, raw_weights, model):
    """Return coefficients in units of the answers, composites being weighted means of their items.

    Parameters
    ----------
    paths : numpy.ndarray, shape (edges, b)
        Standardized coefficients.
    raw_weights : numpy.ndarray, shape (items, b)
        Weights of the items in their own units that give composites variance 1.
    model : Structure
        The model.

    Returns
    -------
    numpy.ndarray, shape (edges, b)
        Missing where an end of the path is corrected for attenuation: factors have no unit.
    """
    # A composite with variance 1, divided by the sum of its weights, is the weighted mean.
    size = np.array([raw_weights[block].sum(axis=0) for block in model.blocks])
    size[np.array(model.consistent)] = np.nan
    return np.array([paths[e] * size[i] / size[j] for e, (i, j) in enumerate(model.edges)])


def solve(A, B):
    """Solve symmetric systems, all replicates in one elimination.

    Parameters
    ----------
    A : numpy.ndarray, shape (k, k, b)
        Left sides.
    B : numpy.ndarray, shape (k, b) or (k, m, b)
        Right sides.

    Returns
    -------
    numpy.ndarray
        Shaped like `B`; missing where a left side is singular.
    """
    k, b = A.shape[0], A.shape[-1]
    M = np.concatenate([A, B if B.ndim == 3 else B[:, None]], axis=1)
    size = np.einsum("iib->ib", A)
    regular = np.ones(b, dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for i in range(k):
            regular &= np.abs(M[i, i]) > SINGULAR * size[i]
            M[i] /= M[i, i]
            rest = M[:, i].copy()
            rest[i] = 0.0
            M -= rest[:, None] * M[i]
    found = M[:, k:].reshape(B.shape)
    return np.where(regular, found, np.nan)


def definite(A):
    """Return which symmetric matrices have no negative eigenvalue.

    Parameters
    ----------
    A : numpy.ndarray, shape (k, k, b)
        The matrices; their diagonals are 1.

    Returns
    -------
    numpy.ndarray of bool, shape (b,)
        By the pivots of an elimination.
    """
    M, proper = A.copy(), np.ones(A.shape[-1], dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for i in range(len(M)):
            proper &= M[i, i] > -SINGULAR
            M[i + 1 :] -= M[i + 1 :, [i]] * (M[i] / M[i, i])[None]
    return proper


def _inverse(A):
    k = len(A)
    return solve(A, np.broadcast_to(np.eye(k)[..., None], A.shape))


def _rho_a(S, w):
    """Reliability of a composite, and the factor that turns its weights into loadings of the common factor."""
    square, off = (w * w).sum(axis=0), 1 - np.eye(len(w))
    above = np.einsum("ib,ikb,ik,kb->b", w, S, off, w)
    below = square**2 - (w**4).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.sqrt(np.where(above > 0, above / below, np.nan))
    return (square * unit) ** 2, unit
