"""What a questionnaire asked: items and their constructs, scales, missing codes, reversed items, filters, labels."""

import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError

_TERM = re.compile(r"^\s*(\S+)\s*(<=|>=|==|!=|<|>)\s*([-+]?\d+(?:\.\d+)?)\s*$")
_COMPARE = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip


@dataclass(frozen=True)
class SurveySpec:
    """What a questionnaire asked, and how its answers are coded.

    Every rule that the description breaks is listed in one error, not the first only.

    Parameters
    ----------
    constructs : dict
        Construct to the items (columns) that measure it.
    scale : tuple of float
        Lowest and highest answer; there is no default, because a wrong scale makes every index wrong.
    scales : dict, optional
        Item to (lowest, highest) where it differs.
    missing : tuple of float, optional
        Codes that mean "no answer" in every item, for example ``(98, 99)`` or ``(-99,)``.
    missing_of : dict, optional
        Item to its own codes for "no answer", instead of `missing`.
    special : dict, optional
        Item to codes outside its scale that are answers, each with its meaning: ``{"Q9": {101: "would never leave"}}``.
    reverse : tuple of str, optional
        Items worded the other way round; every measure turns them, the data stay as they are.
    asked_if : dict, optional
        Item to the condition under which it was asked: ``{"Q9": "Q8 >= 6"}``, terms joined by ``and``.
    other : tuple of str, optional
        Further questions on a scale that belong to no construct.
    labels : dict, optional
        Construct, item or column to what a reader should see.
    values : dict, optional
        Column that groups respondents to the meaning of its codes: ``{"plan": {1: "prepaid", 2: "contract"}}``.
    title : str, optional
        Name of the survey.

    Raises
    ------
    DataError
        When the description contradicts itself.

    Examples
    --------
    >>> spec = SurveySpec({"SATISFACTION": ["Q1", "Q2"], "LOYALTY": ["Q3"]}, scale=(1, 10), missing=(99,))
    >>> spec.items
    ['Q1', 'Q2', 'Q3']
    """

    constructs: dict
    scale: tuple
    scales: dict = field(default_factory=dict)
    missing: tuple = ()
    missing_of: dict = field(default_factory=dict)
    special: dict = field(default_factory=dict)
    reverse: tuple = ()
    asked_if: dict = field(default_factory=dict)
    other: tuple = ()
    labels: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    title: str = ""

    def __post_init__(self):
        errors = _shapes(self)
        if not errors:
            errors = _contradictions(self)
        if errors:
            listed = "\n".join(f"- {e}" for e in errors)
            raise DataError(f"The survey description{f' {self.title!r}' if self.title else ''} has faults:\n{listed}")
        set_ = object.__setattr__
        set_(self, "constructs", {name: tuple(items) for name, items in self.constructs.items()})
        set_(self, "scale", tuple(map(float, self.scale)))
        set_(self, "scales", {item: tuple(map(float, ends)) for item, ends in self.scales.items()})
        set_(self, "missing", tuple(map(float, self.missing)))
        set_(self, "missing_of", {item: tuple(map(float, codes)) for item, codes in self.missing_of.items()})
        set_(self, "special", {i: {float(c): str(m) for c, m in codes.items()} for i, codes in self.special.items()})
        set_(self, "values", {c: {float(k): str(v) for k, v in codes.items()} for c, codes in self.values.items()})
        set_(self, "reverse", tuple(self.reverse))
        set_(self, "other", tuple(self.other))

    @classmethod
    def from_toml(cls, path):
        """Read a description from a TOML file whose keys are the parameters of this class.

        Parameters
        ----------
        path : str or pathlib.Path
            The file.

        Returns
        -------
        SurveySpec
            The description.

        Raises
        ------
        DataError
            When the file is missing, is not TOML or contradicts itself.
        """
        path = Path(path)
        try:
            facts = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise DataError(f"There is no survey description {path}.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DataError(f"{path} cannot be read as TOML in UTF-8: {error}.") from None
        known = [f.name for f in fields(cls)]
        errors = [f"there is no setting {name!r}; those are {', '.join(known)}" for name in facts if name not in known]
        errors += [f"{name!r} is required" for name in ("constructs", "scale") if name not in facts]
        # What is known is checked too, so that one reading names every fault of the file.
        if {"constructs", "scale"} <= set(facts):
            try:
                spec = cls(**{name: value for name, value in facts.items() if name in known})
            except DataError as error:
                errors += str(error).split("\n- ")[1:]
        if errors:
            raise DataError(f"{path}: the survey description has faults:\n" + "\n".join(f"- {e}" for e in errors))
        return spec

    @property
    def items(self):
        """Every question on a scale: those of the constructs in their order, then the other ones."""
        return [item for items in self.constructs.values() for item in items] + list(self.other)

    def scale_of(self, item):
        """Return the lowest and the highest answer of an item.

        Parameters
        ----------
        item : str
            One of `items`.

        Returns
        -------
        tuple of float
            Lowest and highest answer.
        """
        return self.scales.get(item, self.scale)

    def label(self, name):
        """Return what a reader should see for a construct, an item or a column.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        str
            Its label; the name itself where there is none.
        """
        return self.labels.get(name, name)

    def prepare(self, data, items=None):
        """Return the answers as numbers: missing codes and unasked questions blank, reversed items turned.

        Every measure of this room reads its data through here; what does not fit the description is refused.

        Parameters
        ----------
        data : pandas.DataFrame
            One row a respondent.
        items : list of str, optional
            The items wanted; those of all constructs by default.

        Returns
        -------
        pandas.DataFrame
            One column an item, floats.

        Raises
        ------
        DataError
            When an item is unknown or not in the data, or a cell holds no number, a number off the scale or a special
            code, or an answer to a question that was not asked.

        Examples
        --------
        >>> frame = pd.DataFrame({"Q1": [1, 10, 99], "Q2": [10, 2, 3]})
        >>> spec = SurveySpec({"SATISFACTION": ["Q1", "Q2"]}, scale=(1, 10), missing=(99,), reverse=("Q2",))
        >>> spec.prepare(frame).to_numpy().tolist()
        [[1.0, 1.0], [10.0, 9.0], [nan, 8.0]]
        """
        items = [item for group in self.constructs.values() for item in group] if items is None else list(items)
        numbers, kinds, faults = coded(data, self, items)
        if len(faults):
            raise DataError(faults_in_words(faults, len(data)), faults=faults)
        for item in items:
            if hits := int((kinds[item] == "special").sum()):
                codes = "; ".join(f"{code:g}: {meaning}" for code, meaning in self.special[item].items())
                raise DataError(
                    f"{item} holds {hits:,} special codes ({codes}) that are answers but no points of its scale: it "
                    "cannot be averaged or correlated as it stands."
                )
            if item in self.reverse:
                numbers[item] = sum(self.scale_of(item)) - numbers[item]
        return numbers


def spec(name):
    """Return the description of a survey of the catalogue, of a template, or of a file.

    Parameters
    ----------
    name : str, pathlib.Path or SurveySpec
        A name such as ``"mobi"``, ``"corporate_reputation"``, ``"acsi_2015"``, ``"template_en"`` or ``"template_zh"``;
        the path of a TOML file; a description is returned as it is.

    Returns
    -------
    SurveySpec
        The description.

    Raises
    ------
    DataError
        When there is no such description, or it contradicts itself.

    Examples
    --------
    >>> spec("mobi").constructs["SATISFACTION"]
    ('CUSA1', 'CUSA2', 'CUSA3')
    """
    if isinstance(name, SurveySpec):
        return name
    room = Path(__file__).parent
    # In the work tree the descriptions lie in data/surveys; an installed wheel carries them beside this file.
    folders = [f for f in (room / "surveys", room.parents[1] / "data" / "surveys") if f.is_dir()]
    known = {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}
    if str(name) in known:
        return SurveySpec.from_toml(known[str(name)])
    if Path(name).suffix == ".toml":
        return SurveySpec.from_toml(name)
    raise DataError(f"There is no survey description {str(name)!r}: give a TOML file or one of {', '.join(known)}.")


def coded(data, asked, items):
    """Return the answers as numbers with blanks, the kind of every cell, and the cells that do not fit.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    asked : SurveySpec
        What was asked.
    items : list of str
        The items wanted.

    Returns
    -------
    numbers : pandas.DataFrame
        Floats: missing codes and unasked questions blank, special codes and cells off the scale as they are.
    kinds : pandas.DataFrame
        Of every cell one of "answer", "special", "blank", "missing code", "not asked", "fault".
    faults : pandas.DataFrame
        `row` (counted from 1), `column`, `value`, `problem` of the cells that do not fit.

    Raises
    ------
    DataError
        When the data are no frame with these columns, each once.
    """
    _columns(data, asked, items)
    numbers, kinds, faults = {}, {}, []
    for item in dict.fromkeys([*items, *(column for i in items for column, _, _ in _condition(asked, i))]):
        raw = data[item].astype(object) if isinstance(data[item].dtype, pd.CategoricalDtype) else data[item]
        number = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float, na_value=np.nan, copy=True)
        blank = raw.isna().to_numpy() | _empty(raw)
        code = np.isin(number, asked.missing_of.get(item, asked.missing))
        special = np.isin(number, list(asked.special.get(item, ())))
        low, high = asked.scale_of(item) if item in asked.items else (-np.inf, np.inf)
        word = np.isnan(number) & ~blank
        off = ~code & ~special & ((number < low) | (number > high))
        number[code] = np.nan
        numbers[item] = number
        kinds[item] = np.select(
            [word | off, blank, code, special], ["fault", "blank", "missing code", "special"], "answer"
        )
        faults += [(k + 1, item, raw.iloc[k], "is not a number") for k in np.flatnonzero(word)]
        faults += [(k + 1, item, raw.iloc[k], f"is off the scale {low:g} to {high:g}") for k in np.flatnonzero(off)]
    for item in items:
        if terms := _condition(asked, item):
            # Whoever did not answer the filter question was not asked; a blank would pass only a !=.
            passed = np.logical_and.reduce(
                [_COMPARE[op](numbers[column], value) & ~np.isnan(numbers[column]) for column, op, value in terms]
            )
            wrong = ~passed & np.isin(kinds[item], ["answer", "special"])
            kinds[item] = np.select([wrong, ~passed & (kinds[item] == "blank")], ["fault", "not asked"], kinds[item])
            problem = f"was answered although it is asked only if {asked.asked_if[item]}"
            faults += [(k + 1, item, data[item].iloc[k], problem) for k in np.flatnonzero(wrong)]
    return (
        pd.DataFrame({i: numbers[i] for i in items}, index=data.index),
        pd.DataFrame({i: kinds[i] for i in items}, index=data.index),
        pd.DataFrame(faults, columns=["row", "column", "value", "problem"]),
    )


def faults_in_words(faults, rows):
    """Return a message on the cells that do not fit the description.

    Parameters
    ----------
    faults : pandas.DataFrame
        Of `coded`.
    rows : int
        Number of respondents.

    Returns
    -------
    str
        What is wrong, in which item and row, and what to do.
    """
    lines = []
    for (item, problem), cells in faults.groupby(["column", "problem"], sort=False):
        values = cells["value"].value_counts()
        shown = ", ".join(str(r) for r in cells["row"][:5]) + (", …" if len(cells) > 5 else "")
        named = ", ".join(f"{v!s} ({n:,} times)" for v, n in values[:3].items()) + (", …" if len(values) > 3 else "")
        lines.append(f"- {item}: {named} {problem}; row {shown} of {rows:,}")
    more = f"\n- … and {len(lines) - 20} more" if len(lines) > 20 else ""
    return (
        f"{len(faults):,} answers do not fit the survey description:\n"
        + "\n".join(lines[:20])
        + more
        + "\nA code for no answer belongs into `missing` of the description, another scale into `scale` or `scales`."
    )


def groups_of(data, asked, column):
    """Return the group of every respondent, in words where the description has them.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    asked : SurveySpec
        What was asked.
    column : str
        The column that groups.

    Returns
    -------
    pandas.Series
        Labels; blank where the column is, or where it holds a missing code.

    Raises
    ------
    DataError
        When the column is not in the data, or it holds a code that the description does not know.
    """
    if column not in data.columns:
        raise DataError(f"There is no column {column!r} to group by; the data have {_some(data.columns)}.")
    series = data[column]
    if column not in asked.values:
        return series
    meanings = asked.values[column]
    number = pd.to_numeric(series, errors="coerce")
    # Data that an audit has cleaned hold the words already.
    words = number.map(meanings).where(number.notna(), series.where(series.isin(list(meanings.values()))))
    codes = asked.missing_of.get(column, asked.missing)
    unknown = series[words.isna() & series.notna() & ~number.isin(codes)]
    if len(unknown):
        raise DataError(
            f"{column} holds {_some(unknown.unique())}, for which `values` of the survey description has no meaning."
        )
    return words


def _condition(asked, item):
    terms = [_TERM.match(term) for term in asked.asked_if[item].split(" and ")] if item in asked.asked_if else []
    return [(m[1], m[2], float(m[3])) for m in terms]


def _columns(data, asked, items):
    if not isinstance(data, pd.DataFrame):
        raise DataError(f"A survey must be a pandas frame with one row a respondent, not {type(data).__name__}.")
    errors = [f"{i!r} is not an item of the survey description" for i in items if i not in asked.items]
    needed = dict.fromkeys([*items, *(c for i in items for c, _, _ in _condition(asked, i))])
    counts = data.columns.value_counts()
    absent = [i for i in needed if i not in counts.index]
    if absent:
        errors.append(f"the data have no column {', '.join(absent)}; they have {_some(data.columns)}")
    errors += [f"the data have {counts[i]} columns named {i}" for i in needed if i in counts.index and counts[i] > 1]
    if not len(data):
        errors.append("the data have no rows")
    if errors:
        raise DataError("The data do not fit the survey description: " + "; ".join(errors) + ".")


def _empty(raw):
    if pd.api.types.is_numeric_dtype(raw.dtype):
        return np.zeros(len(raw), dtype=bool)
    return raw.map(lambda v: isinstance(v, str) and not v.strip()).to_numpy(dtype=bool)


def _some(names):
    names = [str(n) for n in names]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _number(value):
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)


def _ends(ends):
    return isinstance(ends, list | tuple) and len(ends) == 2 and all(map(_number, ends)) and ends[0] < ends[1]


def _names(value):
    return isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)


def _code(value):
    """Whether a key of a table is a number; TOML writes keys as text."""
    try:
        return _number(float(value))
    except (TypeError, ValueError):
        return False


def _shapes(spec):
    """List the settings that are not of the kind they should be."""
    errors = []
    tables = ["constructs", "scales", "missing_of", "special", "asked_if", "labels", "values"]
    errors += [f"`{n}` must be a table of names" for n in tables if not isinstance(getattr(spec, n), dict)]
    if errors:
        return errors
    if not spec.constructs:
        errors.append("`constructs` is empty")
    for name, items in spec.constructs.items():
        if not _names(items) or not items:
            errors.append(f"construct {name} must be a list of one item or more")
    if not _ends(spec.scale):
        errors.append(f"`scale` must be the lowest and the highest answer, such as [1, 10], not {spec.scale!r}")
    errors += [
        f"`scales` of {item} must be its lowest and highest answer, not {ends!r}"
        for item, ends in spec.scales.items()
        if not _ends(ends)
    ]
    lists = {"missing": spec.missing} | {f"missing_of {item}": codes for item, codes in spec.missing_of.items()}
    for name, codes in lists.items():
        if not isinstance(codes, list | tuple):
            errors.append(f"`{name}` must be a list of numbers, not {codes!r}")
        else:
            # A missing code given as text would match nothing and pass unnoticed.
            errors += [f"`{name}` holds {code!r}, which is not a number" for code in codes if not _number(code)]
    for kind in ("special", "values"):
        for name, codes in getattr(spec, kind).items():
            if not isinstance(codes, dict) or not all(map(_code, codes)):
                errors.append(f"`{kind}` of {name} must be a table of number = meaning")
    errors += [f"`{n}` must be a list of items" for n in ("reverse", "other") if not _names(getattr(spec, n))]
    errors += [f"`asked_if` of {i} must be text" for i, rule in spec.asked_if.items() if not isinstance(rule, str)]
    errors += [f"the label of {n} must be text" for n, label in spec.labels.items() if not isinstance(label, str)]
    return errors


def _contradictions(spec):
    """List where the settings contradict each other."""
    errors = []
    homes = {}
    for name, items in [*spec.constructs.items(), ("other", spec.other)]:
        for item in items:
            homes.setdefault(item, []).append(name)
    for item, names in homes.items():
        if len(names) > 1:
            errors.append(f"item {item} is listed more than once: in {', '.join(names)}")
        if item in spec.constructs:
            errors.append(f"{item} is the name of an item and of a construct")
    for setting in ("scales", "special", "reverse", "asked_if"):
        errors += [f"`{setting}` names {i}, which is no item" for i in getattr(spec, setting) if i not in homes]
    for item, rule in spec.asked_if.items():
        terms = [_TERM.match(term) for term in rule.split(" and ")]
        if not all(terms):
            errors.append(f'`asked_if` of {item} must look like "Q8 >= 6" or "Q7 == 1 and Q8 >= 6", not {rule!r}')
        elif item in {m[1] for m in terms}:
            errors.append(f"`asked_if` of {item} depends on itself")
    for item, codes in spec.special.items():
        missing = spec.missing_of.get(item, spec.missing)
        low, high = spec.scales.get(item, spec.scale)
        for code in map(float, codes):
            if code in missing:
                errors.append(f"{item}: {code:g} is both a missing and a special code")
            elif low <= code <= high:
                errors.append(f"{item}: the special code {code:g} lies on its scale {low:g} to {high:g}")
    for item in homes:
        low, high = spec.scales.get(item, spec.scale)
        if inside := [f"{code:g}" for code in spec.missing_of.get(item, spec.missing) if low <= code <= high]:
            errors.append(
                f"{item}: the missing code {', '.join(inside)} lies on its scale {low:g} to {high:g} and would delete "
                "answers; give the item its own codes in `missing_of`"
            )
    return errors
