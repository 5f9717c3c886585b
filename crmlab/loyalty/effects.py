"""How much one construct moves another: directly, over others, in all."""

import numpy as np
import pandas as pd

from crmlab.loyalty.structure import ARROW


def total_effects(paths, model):
    """Return how much each construct moves each other one, over all ways.

    Parameters
    ----------
    paths : numpy.ndarray, shape (edges, b)
        Coefficients of the paths.
    model : Structure
        The model.

    Returns
    -------
    numpy.ndarray, shape (constructs, constructs, b)
        From the first to the second; zero where no way leads.
    """
    J = len(model.constructs)
    total = np.zeros((J, J, paths.shape[-1]))
    # Constructs stand in the order of causes, so what leads to a cause is complete before it is passed on.
    for e in sorted(range(len(model.edges)), key=lambda e: model.edges[e][1]):
        i, j = model.edges[e]
        total[i, j] += paths[e]
        total[:, j] += total[:, i] * paths[e]
    return total


def decompose(paths, model):
    """Return direct, indirect and total effects of all pairs between which a way leads.

    Parameters
    ----------
    paths : numpy.ndarray, shape (edges, b)
        Coefficients of the paths.
    model : Structure
        The model.

    Returns
    -------
    dict
        `direct`, `indirect`, `total`: arrays of shape (pairs, b), in the order of `connected`.
    """
    pairs = connected(model)
    total = total_effects(paths, model)[tuple(np.array(pairs).T)]
    direct = np.zeros_like(total)
    for k, pair in enumerate(pairs):
        if pair in model.edges:
            direct[k] = paths[model.edges.index(pair)]
    return {"direct": direct, "indirect": total - direct, "total": total}


def connected(model):
    """Return the pairs of constructs between which a way leads.

    Parameters
    ----------
    model : Structure
        The model.

    Returns
    -------
    list of (int, int)
        Cause and outcome by position.
    """
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(_ways(model)), strict=True)]


def mediated(model):
    """Return the pairs of `connected` between which a way leads over at least one more construct.

    Parameters
    ----------
    model : Structure
        The model.

    Returns
    -------
    list of (int, int)
        Cause and outcome by position.
    """
    ways = _ways(model)
    return [(i, j) for i, j in connected(model) if ways[i, j] > ((i, j) in model.edges)]


def _ways(model):
    """Number of ways from one construct to another: their effects, if every coefficient is 1."""
    return total_effects(np.ones((len(model.edges), 1)), model)[..., 0]


def named(pairs, model):
    """Return pairs of constructs as an index.

    Parameters
    ----------
    pairs : sequence of (int, int)
        Cause and outcome by position.
    model : Structure
        The model.

    Returns
    -------
    pandas.MultiIndex
        Levels `cause` and `outcome`.
    """
    names = [(model.constructs[i], model.constructs[j]) for i, j in pairs]
    return pd.MultiIndex.from_tuples(names, names=["cause", "outcome"])


def chains(model):
    """Return every way from one construct to another over at least one more.

    Parameters
    ----------
    model : Structure
        The model.

    Returns
    -------
    dict
        Name of the way (``"A -> B -> C"``) to the positions of its paths, shorter ways first.
    """
    leaving = {}
    for e, (i, _) in enumerate(model.edges):
        leaving.setdefault(i, []).append(e)
    found, ways = {}, [(e,) for e in range(len(model.edges))]
    while ways:
        ways = [(*way, e) for way in ways for e in leaving.get(model.edges[way[-1]][1], [])]
        for way in ways:
            stops = [model.edges[way[0]][0], *(model.edges[e][1] for e in way)]
            found[ARROW.join(model.constructs[k] for k in stops)] = list(way)
    return found


def along(paths, model):
    """Return the effect along each way of `chains`.

    Parameters
    ----------
    paths : numpy.ndarray, shape (edges, b)
        Coefficients of the paths.
    model : Structure
        The model.

    Returns
    -------
    numpy.ndarray, shape (ways, b)
        Products of coefficients.
    """
    found = [paths[way].prod(axis=0) for way in chains(model).values()]
    return np.array(found).reshape(len(found), paths.shape[-1])
