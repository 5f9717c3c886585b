"""What a path model consists of: constructs, their items, the paths between them, and the answers it is fitted to."""

import difflib
import graphlib
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty.samples import numbers

ARROW = " -> "


class Structure(NamedTuple):
    """A path model without data: everything by position, so that the arithmetic needs no names.

    Attributes
    ----------
    constructs : tuple of str
        In an order in which every cause comes before its outcomes.
    items : tuple of str
        Item after item, construct after construct.
    blocks : tuple of numpy.ndarray
        Positions of the items of each construct.
    edges : tuple of (int, int)
        Positions of cause and outcome of each path, in the order in which the paths were given.
    formative : tuple of bool
        Which constructs are weighted by regression (Mode B).
    consistent : tuple of bool
        Which constructs are corrected for attenuation (PLSc).
    """

    constructs: tuple
    items: tuple
    blocks: tuple
    edges: tuple
    formative: tuple
    consistent: tuple

    @property
    def names(self):
        """The paths as text, ``"cause -> outcome"``."""
        return [f"{self.constructs[i]}{ARROW}{self.constructs[j]}" for i, j in self.edges]

    @property
    def outcomes(self):
        """Positions of the constructs that a path leads to."""
        return [j for j in range(len(self.constructs)) if self.causes(j)]

    @property
    def items_of(self):
        """Construct to its items, by name."""
        return {name: [self.items[i] for i in self.blocks[j]] for j, name in enumerate(self.constructs)}

    def causes(self, j):
        """Positions of the direct causes of a construct."""
        return [a for a, b in self.edges if b == j]


def structure(spec, paths, modes=None, consistent=False):
    """Check the specification of a path model and bring it into order.

    Parameters
    ----------
    spec : SurveySpec or mapping
        Construct to items.
    paths : mapping, str or sequence
        Which construct acts on which; see `PathModel`.
    modes : mapping, optional
        Construct to ``"A"`` or ``"B"``; A where nothing is said.
    consistent : bool or sequence of str
        Constructs to correct for attenuation; true for all of Mode A with more than one item.

    Returns
    -------
    Structure
        The model by position.

    Raises
    ------
    DataError
        Whatever does not fit together, by name.
    """
    declared = {name: _listed(items) for name, items in getattr(spec, "constructs", spec).items()}
    edges = read_paths(paths)
    used = list(dict.fromkeys(name for edge in edges for name in edge))
    for name in used:
        if name not in declared:
            raise DataError(f"A path names the construct {name!r}, {_unknown(name, declared)}.")
        if not declared[name]:
            raise DataError(f"The construct {name!r} has no item: name the questions that measure it.")
    owner = {}
    for name in used:
        for item in declared[name]:
            if item in owner:
                where = f"twice in {name!r}" if owner[item] == name else f"in both {owner[item]!r} and {name!r}"
                raise DataError(f"The item {item!r} stands {where}: an item measures one construct, once.")
            owner[item] = name
    order = _ordered(used, edges)
    if modes is not None and not isinstance(modes, Mapping):
        raise DataError(f'modes must name constructs, such as {{"Image": "B"}}, not {modes!r}.')
    modes = dict(modes or {})
    for name, mode in modes.items():
        if name not in used:
            raise DataError(f"modes names the construct {name!r}, {_unknown(name, used)}.")
        if mode not in ("A", "B"):
            raise DataError(f"The mode of {name!r} must be A (correlation weights) or B (regression), not {mode!r}.")
    corrected = used if consistent is True else _listed(consistent or ())
    for name in corrected:
        if name not in used:
            raise DataError(f"consistent names the construct {name!r}, {_unknown(name, used)}.")
    if consistent is not True and (wrong := [name for name in corrected if modes.get(name) == "B"]):
        raise DataError(f"{wrong[0]!r} is of Mode B: only constructs of Mode A can be corrected for attenuation.")
    items = tuple(item for name in order for item in declared[name])
    position = {name: k for k, name in enumerate(order)}
    return Structure(
        constructs=tuple(order),
        items=items,
        blocks=tuple(np.array([items.index(item) for item in declared[name]]) for name in order),
        edges=tuple((position[a], position[b]) for a, b in edges),
        formative=tuple(modes.get(name) == "B" and len(declared[name]) > 1 for name in order),
        consistent=tuple(name in corrected and modes.get(name) != "B" and len(declared[name]) > 1 for name in order),
    )


def read_paths(paths):
    """Return paths as pairs of cause and outcome.

    Parameters
    ----------
    paths : mapping, str or sequence
        A mapping from outcome to causes, formulas, arrows, or pairs of cause and outcome.

    Returns
    -------
    list of tuple of str
        In the order given.

    Raises
    ------
    DataError
        No path, a path twice, from a construct to itself, or what cannot be read.

    Examples
    --------
    >>> read_paths("Loyalty ~ Satisfaction + Image; Image -> Satisfaction")
    [('Satisfaction', 'Loyalty'), ('Image', 'Loyalty'), ('Image', 'Satisfaction')]
    >>> read_paths({"Loyalty": ["Satisfaction", "Image"]})
    [('Satisfaction', 'Loyalty'), ('Image', 'Loyalty')]
    """
    if isinstance(paths, Mapping):
        edges = [(cause, outcome) for outcome, causes in paths.items() for cause in _listed(causes)]
    elif isinstance(paths, str):
        edges = [edge for line in paths.replace(";", "\n").splitlines() if line.strip() for edge in _formula(line)]
    else:
        edges = []
        for entry in paths or ():
            if isinstance(entry, str):
                edges += _formula(entry)
            elif isinstance(entry, list | tuple) and len(entry) == 2:
                edges.append(tuple(entry))
            else:
                raise DataError(f"The path {entry!r} is not a pair of cause and outcome.")
    if not edges:
        raise DataError('The model has no path; for example "Loyalty ~ Satisfaction + Image".')
    for k, (cause, outcome) in enumerate(edges):
        if cause == outcome:
            raise DataError(f"A path leads from {cause!r} to itself.")
        if (cause, outcome) in edges[:k]:
            raise DataError(f"The path {cause}{ARROW}{outcome} is given twice.")
    return edges


def _formula(text):
    """Edges of ``"outcome ~ cause + cause"`` or ``"cause -> outcome -> outcome"``."""
    if text.count("~") == 1:
        outcome, causes = (part.strip() for part in text.split("~"))
        edges = [(cause.strip(), outcome) for cause in causes.split("+")]
    else:
        stops = [part.strip() for part in text.replace("→", "->").split("->")]
        edges = list(itertools.pairwise(stops))
    if not edges or not all(name for edge in edges for name in edge):
        raise DataError(f'The path {text.strip()!r} cannot be read; write "Loyalty ~ Satisfaction + Image".')
    return edges


def _ordered(used, edges):
    """The constructs, causes first."""
    sorter = graphlib.TopologicalSorter({name: [a for a, b in edges if b == name] for name in used})
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        # graphlib lists the circle against the arrows.
        circle = ARROW.join(reversed(error.args[1]))
        raise DataError(f"The paths run in a circle: {circle}. Leave one of them out.") from None


def _listed(names):
    return tuple(names) if isinstance(names, list | tuple | set | pd.Index) else (names,)


def _unknown(name, known):
    return f"which is not among the constructs {', '.join(map(str, known))}{_close(name, known)}"


def _close(name, known):
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class Answers(NamedTuple):
    """The answers that a model is fitted to.

    Attributes
    ----------
    table : pandas.DataFrame
        The rows used, one column an item, missing answers as NaN.
    replaced : pandas.Series
        By item, how many missing answers stand for the item's mean.
    excluded : int
        Rows left out: listwise those with any missing answer, otherwise those without any answer.
    """

    table: pd.DataFrame
    replaced: pd.Series
    excluded: int


def answers(model, data, spec, missing="mean"):
    """Take the items of a model from a table, or say by name what is wrong with them.

    Parameters
    ----------
    model : Structure
        The model.
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or mapping
        Where scales, missing codes and reversed items are declared; a mapping declares nothing of the kind.
    missing : {"mean", "listwise"}
        What is done about missing answers.

    Returns
    -------
    Answers
        The answers as numbers.

    Raises
    ------
    DataError
        Missing columns, text, infinite values, missing codes that were not declared, constant items, items that repeat
        one another, too few rows.
    """
    if missing not in ("mean", "listwise"):
        raise DataError(f"missing must be mean (replace by the item's mean) or listwise (drop), not {missing!r}.")
    items = list(model.items)
    frame = numbers(data, items) if isinstance(spec, Mapping) else spec.prepare(data, items)
    x = frame.to_numpy(dtype=float)
    for k, item in enumerate(items):
        if np.isnan(x[:, k]).all():
            raise DataError(f"The item {item!r} has no answer at all: leave it out of its construct.")
    gap = np.isnan(x)
    keep = ~gap.any(axis=1) if missing == "listwise" else ~gap.all(axis=1)
    if not keep.any():
        raise DataError(
            f"No respondent answered all of the {len(items)} items (worst: {items[gap.sum(axis=0).argmax()]!r}); use "
            'missing="mean".'
        )
    x, gap = x[keep], gap[keep]
    _variation(items, x)
    if len(x) <= len(items):
        raise DataError(
            f"{len(x)} respondents for the {len(items)} items {items[0]!r} to {items[-1]!r}: a model needs more "
            "respondents than items."
        )
    return Answers(
        table=pd.DataFrame(x, columns=items, index=data.index[keep]),
        replaced=pd.Series(gap.sum(axis=0), index=pd.Index(items, name="item"), name="replaced"),
        excluded=int((~keep).sum()),
    )


def _variation(items, x):
    """Items without variation and items that are copies of one another have no place in a model."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z = x - np.nanmean(x, axis=0)
        spread = np.nanmax(np.abs(z), axis=0)
        if (flat := spread <= 1e-12 * np.abs(x).max(axis=0, where=~np.isnan(x), initial=0)).any():
            item = items[int(flat.argmax())]
            raise DataError(f"The item {item!r} has the same answer in all rows: leave it out of its construct.")
        z = np.where(np.isnan(z), 0.0, z) / spread
        length = np.sqrt((z * z).sum(axis=0))
        r = np.abs(z.T @ z) / np.outer(length, length)
    np.fill_diagonal(r, 0.0)
    if r.max(initial=0) > 1 - 1e-12:
        one, other = np.unravel_index(r.argmax(), r.shape)
        raise DataError(
            f"The items {items[min(one, other)]!r} and {items[max(one, other)]!r} are copies of one another "
            "(correlation 1 or -1): leave one of them out."
        )
