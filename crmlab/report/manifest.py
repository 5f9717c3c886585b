"""A manifest: which notebooks run with which parameters.

A manifest is a TOML file; its paths are relative to its own folder. ::

    [defaults]
    timeout = 600                                       # seconds, for a whole report

    [[report]]
    name = "retention"                                  # small letters, digits, _ and -: the folder of the report
    title = "Who stays?"                                # default: the notebook's own title
    notebook = "../notebooks/03_customer_lifecycle.ipynb"
    parameters = { penalizer = 0.01 }
    matrix = { segment = ["all", "online"] }            # one run for each combination
    data = ["../data/orders.csv"]                       # files that make the report stale when they change;
                                                        # the file of a parameter `dataset` is one by itself
"""

import dataclasses
import difflib
import hashlib
import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated

from crmlab.data.masking import mask
from crmlab.report.parameters import (
    ParameterError,
    check_parameters,
    locate_dataset,
    read_notebook,
    read_parameters,
)

TIMEOUT = 600


class ManifestError(ValueError):
    """A manifest cannot be used; the message lists every fault and says what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One notebook with one set of parameters: one report."""

    slug: str
    title: str
    notebook: Path
    parameters: dict
    timeout: float = TIMEOUT
    data: tuple = ()


def read_manifest(path):
    """Read a manifest and check all of it, the parameters of every run included.

    Parameters
    ----------
    path : str or pathlib.Path
        The manifest.

    Returns
    -------
    list of Run
        In the order of the manifest; a matrix gives one run for each combination.

    Raises
    ------
    ManifestError
        With every fault found: in the file, in names and paths, in parameters.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not TOML: {error}.") from None
    runs, faults = [], _schema_faults(content)
    if not faults:
        for report in content["report"]:
            timeout = report.get("timeout", content.get("defaults", {}).get("timeout", TIMEOUT))
            expanded, wrong = _expand(path.parent, report, timeout)
            runs += expanded
            faults += [f"report {report['name']!r}: {fault}" for fault in wrong]
        slugs = [run.slug for run in runs]
        faults += [f"{slug!r} is the name of several runs; give each its own." for slug in _twice(slugs)]
    if faults:
        raise ManifestError("\n  ".join([f"{path} cannot be built:", *faults]))
    return runs


def title_of(notebook):
    """Return the first heading of a notebook.

    Parameters
    ----------
    notebook : dict
        The notebook.

    Returns
    -------
    str or None
        The heading of the first text cell that has one of the first level.
    """
    texts = (cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    found = (re.search(r"^#[ \t]+(.+?)[ \t#]*$", text, re.MULTILINE) for text in texts)
    return next((match[1] for match in found if match), None)


def _schema_faults(content):
    import pydantic

    strict = {"extra": "forbid", "strict": True}
    seconds = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    model = pydantic.create_model(
        "Report",
        __config__=strict,
        name=Annotated[str, pydantic.Field(pattern="^[a-z0-9_-]+$")],
        notebook=str,
        title=(str, ""),
        parameters=(dict, {}),
        matrix=(dict[str, Annotated[list, pydantic.Field(min_length=1)]], {}),
        data=(list[str], []),
        timeout=(seconds, TIMEOUT),
    )
    defaults = pydantic.create_model(
        "Defaults", __config__={"extra": "forbid", "strict": True}, timeout=(seconds, TIMEOUT)
    )
    faults = [
        f"{key}: no such key; a manifest has [defaults] and [[report]]"
        for key in content.keys() - {"defaults", "report"}
    ]
    reports = content.get("report")
    if not isinstance(reports, list) or not reports:
        return [*faults, "no report in it; write one with [[report]], name = … and notebook = …"]
    parts = [("defaults", defaults, content.get("defaults", {}))]
    parts += [(f"report {_name(report, i)}", model, report) for i, report in enumerate(reports, 1)]
    for where, schema, part in parts:
        try:
            schema.model_validate(part)
        except pydantic.ValidationError as error:
            faults += [f"{where}: {_in_words(fault, schema.model_fields)}" for fault in error.errors()]
    return faults


def _name(report, position):
    return repr(report["name"]) if isinstance(report, dict) and "name" in report else f"number {position}"


def _in_words(fault, keys):
    key = ".".join(map(str, fault["loc"])) or "report"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, keys, n=1)
        return f"{key}: no such key; " + (f"did you mean {near[0]}?" if near else f"it may have {', '.join(keys)}")
    if fault["type"] == "missing":
        return f"{key} is missing"
    if fault["type"] == "string_pattern_mismatch":
        return f"{key}: {fault['input']!r} may only have small letters, digits, _ and -"
    return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}, not {mask(fault['input'])!r}"


def _expand(folder, report, timeout):
    """Return the runs of one entry and the faults in it."""
    notebook = folder / report["notebook"]
    data = tuple(folder / name for name in report.get("data", []))
    given, matrix = report.get("parameters", {}), report.get("matrix", {})
    faults = [f"data file {name} not found" for name in data if not name.is_file()]
    faults += [f"{name} stands in parameters and in matrix; keep one" for name in given.keys() & matrix.keys()]
    try:
        declared = read_parameters(notebook)
        title = report.get("title") or title_of(read_notebook(notebook)) or report["name"]
    except ParameterError as error:
        return [], [*faults, str(error).replace("\n", "\n  ")]
    runs = []
    for values in itertools.product(*matrix.values()):
        cell = dict(zip(matrix, values, strict=True))
        try:
            parameters, files = locate_dataset(check_parameters(declared, given | cell), folder, notebook)
        except ParameterError as error:
            faults += error.faults
            continue
        suffix = " – " + ", ".join(f"{key}: {value}" for key, value in mask(cell).items()) if cell else ""
        runs.append(Run(_slug(report["name"], mask(cell)), title + suffix, notebook, parameters, timeout, data + files))
    # A fault in the fixed parameters shows in each combination; once is enough.
    return runs, list(dict.fromkeys(faults))


def _slug(name, cell):
    texts = [f"{key}-{value}".lower() for key, value in cell.items()]
    safe = [re.sub(r"[^a-z0-9._-]+", "-", text) for text in texts]
    slug = "--".join([name, *safe])
    if len(slug) <= 80 and [f"{key}-{value}" for key, value in cell.items()] == safe:
        return slug
    # What a folder's name cannot hold is told apart by a hash.
    return f"{slug[:70]}-{hashlib.sha256(json.dumps(cell, default=str).encode()).hexdigest()[:8]}"


def _twice(names):
    return sorted({name for name in names if names.count(name) > 1})
