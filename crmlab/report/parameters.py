"""The parameters of a notebook: read without running it, checked before anything runs.

A notebook has one cell tagged ``parameters`` with lines such as ``horizon: int = 26  # weeks, how far to look ahead``.
Types are ``int``, ``float``, ``bool``, ``str``, ``date``, ``Literal[...]``, ``list[...]`` and ``T | None``; without an
annotation the default tells the type. Dates are ISO texts everywhere (``"2024-01-31"``), also where the annotation says
``date``: that only checks them, so a default and a given value look the same to the notebook.

A range is a quoted comparison: ``horizon: "1 <= int <= 30" = 26  # weeks``. It needs no import, so the cell runs as it
stands anywhere (``Annotated[int, Field(ge=1, le=30)]`` would need two); Python keeps it as a text and never evaluates
it; and it is what is checked, while a sentence in a comment may say something else. Bounds of dates are texts:
``start: "'2020-01-01' <= date" = "2024-01-31"``; ranges nest: ``list["int > 0"]``, ``"(0 <= float <= 1) | None"``.
"""

import ast
import dataclasses
import datetime
import difflib
import functools
import glob
import io
import json
import os
import re
import tokenize
import types
import typing
from pathlib import Path

from crmlab.data.masking import mask
from crmlab.data.objects import is_remote


class ParameterError(ValueError):
    """A notebook's parameters, or the values given for them, cannot be used.

    Parameters
    ----------
    message : str
        What is wrong and what to do.
    faults : list of str, optional
        One line a fault, when there are several.
    known : iterable of str, optional
        Secrets that the message must not tell.
    """

    def __init__(self, message, faults=(), known=()):
        super().__init__(mask("\n  ".join([message, *faults]), known))
        self.faults = mask(list(faults) or [message], known)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `name: annotation = default  # description`."""

    name: str
    type: object
    annotation: str
    default: object
    description: str


def read_notebook(path):
    """Read a notebook as plain data.

    Parameters
    ----------
    path : str or pathlib.Path
        The notebook.

    Returns
    -------
    dict
        The notebook, every cell's source one text.

    Raises
    ------
    ParameterError
        If the file is missing or no notebook of format 4.
    """
    path = Path(path)
    try:
        notebook = json.loads(path.read_bytes())
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            cell["metadata"].setdefault("tags", [])
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ParameterError(f"{path} is not a Jupyter notebook (format 4); open and save it in JupyterLab.") from None
    return notebook


def read_parameters(notebook):
    """Read the parameters cell of a notebook without running it.

    Parameters
    ----------
    notebook : str or pathlib.Path
        The notebook.

    Returns
    -------
    list of Parameter
        In the order of the cell.

    Raises
    ------
    ParameterError
        If the notebook has no parameters cell, or several, or one that is more than assignments of plain values.
    """
    return parameters_of(read_notebook(notebook), notebook)


def parameters_of(content, name):
    """Read the parameters cell of a notebook that has been read.

    Parameters
    ----------
    content : dict
        The notebook, as `read_notebook` gives it.
    name : str or pathlib.Path
        What messages call it.

    Returns
    -------
    list of Parameter
        In the order of the cell.

    Raises
    ------
    ParameterError
        As `read_parameters`.
    """
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    cells = [cell for cell in code if "parameters" in cell["metadata"]["tags"]]
    if not cells:
        raise ParameterError(
            f"{name} has no parameters cell. Tag one code cell 'parameters' (in JupyterLab: the gears, top right)."
        )
    if len(cells) > 1:
        raise ParameterError(f"{name} has {len(cells)} cells tagged 'parameters'; keep one.")
    try:
        tree = ast.parse(cells[0]["source"])
    except (SyntaxError, ValueError) as error:
        raise ParameterError(f"{name}, parameters cell: not plain Python ({error}).") from None
    comments = _comments(cells[0]["source"])
    parameters, faults = {}, []
    for line in tree.body:
        if isinstance(line, ast.Import | ast.ImportFrom) or (
            isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
        ):
            continue
        try:
            parameter = _parameter(line, comments.get(line.end_lineno) or comments.get(line.lineno, ""))
            parameters[parameter.name] = parameter
        except (ValueError, TypeError, SyntaxError) as error:
            faults.append(f"line {line.lineno}: {error}")
    if faults:
        raise ParameterError(f"{name}, parameters cell:", faults)
    return list(parameters.values())


def check_parameters(parameters, values, known=()):
    """Check values for a notebook's parameters, all of them before complaining.

    Parameters
    ----------
    parameters : list of Parameter
        What the notebook declares.
    values : dict
        What is to be set; names left out keep their default.
    known : iterable of str, optional
        Secrets that a message must not tell.

    Returns
    -------
    dict
        The given values as JSON can carry them: what papermill passes on.

    Raises
    ------
    ParameterError
        If names are unknown or values do not fit; `faults` has one line each.

    Examples
    --------
    >>> horizon = Parameter("horizon", int, "int", 26, "weeks")
    >>> check_parameters([horizon], {"horizon": 52})
    {'horizon': 52}
    >>> check_parameters([horizon], {"horzion": 52})
    Traceback (most recent call last):
    crmlab.report.parameters.ParameterError: Parameters that cannot be used:
      horzion: no such parameter; did you mean horizon?
    """
    declared = {parameter.name: parameter for parameter in parameters}
    checked, faults = {}, []
    for name, value in values.items():
        if name not in declared:
            faults.append(f"{name}: no such parameter; {_suggestion(name, declared) or _choices(declared)}")
            continue
        try:
            checked[name] = _fit(declared[name].type, value, known)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise ParameterError("Parameters that cannot be used:", faults, known)
    return checked


def locate_dataset(values, folder, notebook):
    """Make files that parameters name reachable from the notebook, whose kernel runs in its own folder.

    Parameters
    ----------
    values : dict
        Checked values.
    folder : pathlib.Path
        Folder that relative paths are meant from: that of the manifest or of the caller.
    notebook : pathlib.Path
        The notebook.

    Returns
    -------
    values : dict
        The values, paths made relative to the notebook's folder.
    files : tuple of pathlib.Path or str
        The files, to see when their content changes; the address where the data set lies in an object store.

    Raises
    ------
    ParameterError
        If `dataset` is the path of a file that does not exist.
    """
    located, files = dict(values), []
    for name, value in values.items():
        if not isinstance(value, str) or not re.search(r"[./\\]|^warehouse:", value):
            # Names of the catalogue have neither dot nor slash.
            continue
        if "://" in value:
            files += [value] if name == "dataset" and is_remote(value) else []
        elif value.startswith("warehouse:"):
            # The small file that lists what was loaded changes with every load.
            state = folder / value.removeprefix("warehouse:") / "warehouse.json"
            if not state.is_file():
                raise ParameterError("Parameters that cannot be used:", [f"{name}: {state.parent} is no warehouse"])
            located[name] = f"warehouse:{_from(notebook, state.parent)}"
            files.append(state)
        elif found := files_named(folder, value):
            located[name] = _from(notebook, folder / value)
            files += found
        elif name == "dataset":
            raise ParameterError("Parameters that cannot be used:", [f"{name}: there is no file {folder / value}"])
    return located, tuple(files)


def files_named(folder, name):
    """Return the files that a path, a folder of Parquet files or a pattern stands for.

    Parameters
    ----------
    folder : pathlib.Path
        Folder that a relative path is meant from.
    name : str
        Path or pattern.

    Returns
    -------
    list of pathlib.Path
        In the order of their names; empty when there are none.
    """
    path = folder / name
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            return sorted(file for file in path.rglob("*.parquet") if file.is_file())
        found = glob.glob(name, root_dir=folder, recursive=True) if glob.has_magic(name) else []  # noqa: PTH207
    except (OSError, ValueError):
        # A text may be no path at all: too long, or with a NUL in it.
        return []
    return sorted(folder / file for file in found if (folder / file).is_file())


def _from(notebook, path):
    return os.path.relpath(path.resolve(), notebook.resolve().parent)


def parse_settings(parameters, settings):
    """Read ``name=value`` texts by the types that the notebook declares.

    Parameters
    ----------
    parameters : list of Parameter
        What the notebook declares.
    settings : iterable of str
        Texts such as ``"horizon=52"``; lists are JSON or separated by commas, ``none`` is no value if that is allowed.

    Returns
    -------
    dict
        Values, not yet checked.

    Raises
    ------
    ParameterError
        If a text has no ``=``, or a name is set twice.

    Examples
    --------
    >>> parse_settings([Parameter("horizon", int, "int", 26, "weeks")], ["horizon=52"])
    {'horizon': 52}
    """
    types = {parameter.name: parameter.type for parameter in parameters}
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ParameterError(f"{setting!r} sets nothing; write name=value, such as horizon=52.")
        if name in values:
            raise ParameterError(f"{name} is set twice.")
        values[name] = _from_text(types.get(name, str), text)
    return values


def _parameter(line, description):
    targets = getattr(line, "targets", [getattr(line, "target", None)])
    plain = isinstance(line, ast.Assign | ast.AnnAssign) and len(targets) == 1 and isinstance(targets[0], ast.Name)
    if not plain or not line.value:
        raise ParameterError("only lines like `name: type = default  # unit, meaning` may stand here.")
    name, annotation = targets[0].id, getattr(line, "annotation", None)
    try:
        default = ast.literal_eval(line.value)
    except ValueError:
        raise ParameterError(
            f"the default of {name} must be a plain value (a number, a text, a list; a date as text '2024-01-31')."
        ) from None
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    kind = _type(annotation) if annotation else _type_of(default)
    try:
        default = _fit(kind, default)
    except ValueError as error:
        raise ParameterError(f"the default of {name}: {error}") from None
    written = ast.unparse(annotation) if annotation else str(kind) if typing.get_origin(kind) else kind.__name__
    return Parameter(name, kind, written, default, description)


def _comments(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").rstrip() for token in tokens if token.type == tokenize.COMMENT}


_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "date": datetime.date, "list": list, "None": type(None)}


def _type(node):
    """Turn an annotation into a type, without evaluating it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in _PLAIN:
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.Compare):
        return _range(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_type(node.left), _type(node.right)]  # noqa: UP007 (the parts are known at run time only)
    base = node.value if isinstance(node, ast.Subscript) else node
    name = str(base.value) if isinstance(base, ast.Constant) else getattr(base, "attr", getattr(base, "id", ""))
    if isinstance(node, ast.Subscript):
        if name == "Literal":
            choices = ast.literal_eval(node.slice)
            return typing.Literal[choices if isinstance(choices, tuple) else (choices,)]
        if name in ("list", "List"):
            return list[_type(node.slice)]
        if name == "Optional":
            return typing.Optional[_type(node.slice)]  # noqa: UP045
    elif name in _PLAIN:
        return _PLAIN[name]
    raise ParameterError(
        f"the type {ast.unparse(node)} is not known here; "
        'use int, float, bool, str, date, Literal[...], list[...], T | None or a range such as "1 <= int <= 30".'
    )


_SIDES = {ast.LtE: ("le", "ge"), ast.Lt: ("lt", "gt"), ast.GtE: ("ge", "le"), ast.Gt: ("gt", "lt")}


def _range(node):
    """Turn a comparison such as ``0 < float <= 1`` into a type with bounds."""
    parts = [node.left, *node.comparators]
    bases = [i for i, part in enumerate(parts) if isinstance(part, ast.Name | ast.Attribute)]
    base = _type(parts[bases[0]]) if len(bases) == 1 else None
    if base not in (int, float, datetime.date) or len(parts) > 3 or (len(parts) == 3 and bases != [1]):
        raise ParameterError(f'{ast.unparse(node)} is no range; write "1 <= int <= 30", "float > 0" or the like.')
    bounds = []
    for i, operator in enumerate(node.ops):
        side = _SIDES.get(type(operator), (None, None))[i < bases[0]]
        bound = _fit(base, ast.literal_eval(parts[i if i < bases[0] else i + 1]))
        if not side or side[0] in {other[0] for other, _ in bounds}:
            raise ParameterError(f"{ast.unparse(node)} is no range; compare with <, <=, > or >=, in one direction.")
        bounds.append((side, bound))
    return typing.Annotated[base, *bounds]


def _type_of(default):
    if default is None:
        raise ParameterError("a default of None needs a type, such as `name: int | None = None`.")
    if isinstance(default, list) and default and len({type(item) for item in default}) == 1:
        return list[_type_of(default[0])]
    if type(default) in _PLAIN.values():
        return type(default)
    raise ParameterError(f"a default of type {type(default).__name__} cannot be a parameter.")


def _fit(kind, value, known=()):
    """Return the value as JSON carries it, or say in words why it does not fit the type."""
    import pydantic

    given = _dates_as_text(value)
    try:
        _adapter(kind).validate_python(given)
        json.dumps(given, allow_nan=False)
    except (pydantic.ValidationError, TypeError, ValueError, RecursionError):
        near = _suggestion(str(given), [str(choice) for choice in typing.get_args(kind)]) if _is_literal(kind) else ""
        raise ValueError(f"{_short(given, known)} is not {in_words(kind)}{'; ' if near else ''}{near}") from None
    return given


@functools.lru_cache(1000)
def _adapter(kind):
    import pydantic

    return pydantic.TypeAdapter(_strict(kind), config={"strict": True})


def _strict(kind):
    """Put a check of ISO texts in place of dates, and of bounds in place of ranges, all the way down."""
    import pydantic

    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is datetime.date:
        read = pydantic.AfterValidator(datetime.date.fromisoformat)
        return typing.Annotated[str, pydantic.Field(json_schema_extra={"format": "date"}), read]
    if origin is typing.Annotated:
        base, *bounds = parts
        read = datetime.date.fromisoformat if base is datetime.date else lambda bound: bound
        return typing.Annotated[_strict(base), pydantic.Field(**{side: read(bound) for side, bound in bounds})]
    if origin is list:
        return list[_strict(*parts)]
    if origin is typing.Union:
        return typing.Union[tuple(_strict(part) for part in parts)]  # noqa: UP007
    return kind


def _dates_as_text(value):
    if isinstance(value, list | tuple):
        return [_dates_as_text(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def _from_text(kind, text):
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _from_text(parts[0], text)
    if origin is typing.Union:
        if type(None) in parts and text.lower() in ("none", "null"):
            return None
        readings = [_from_text(part, text) for part in parts if part is not type(None)]
        return next((reading for reading in readings if not isinstance(reading, str)), text)
    if _is_literal(kind):
        return next((choice for choice in parts if str(choice) == text), text)
    if kind is list or origin is list:
        try:
            return (
                json.loads(text)
                if text.startswith("[")
                else [_from_text(parts[0] if parts else str, item.strip()) for item in text.split(",") if item.strip()]
            )
        except ValueError:
            return text
    if kind is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower(), text)
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def _is_literal(kind):
    return typing.get_origin(kind) is typing.Literal


def in_words(kind):
    """Say in words what values a type has.

    Parameters
    ----------
    kind : type
        The type of a `Parameter`.

    Returns
    -------
    str
        With its article.

    Examples
    --------
    >>> in_words(list[int] | None)
    'a list with each item a whole number or nothing'
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(part) for part in parts)
    if origin is typing.Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin is list:
        return f"a list with each item {in_words(parts[0])}"
    if origin is typing.Annotated:
        says = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        return f"{in_words(parts[0])}, {' and '.join(f'{says[side]} {bound}' for side, bound in parts[1:])}"
    return {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        datetime.date: "a date such as 2024-01-31",
        list: "a list",
        type(None): "nothing",
    }[kind]


def as_json(parameter):
    """Describe a parameter for other programs.

    Parameters
    ----------
    parameter : Parameter
        One line of a parameters cell.

    Returns
    -------
    dict
        Name, type as written, default, meaning with its unit, and `schema`: the JSON schema of its values.
    """
    return {
        "name": parameter.name,
        "type": parameter.annotation,
        "default": mask(parameter.default),
        "meaning": parameter.description,
        "schema": _adapter(parameter.type).json_schema(),
    }


def _short(value, known=()):
    text = repr(mask(value, known))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggestion(name, known):
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""


def _choices(known):
    return f"the notebook has {', '.join(known)}" if known else "the notebook has none"
