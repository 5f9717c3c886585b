"""A manifest: which notebooks run with which parameters.

A manifest is a TOML file; its paths are relative to its own folder. ::

    [defaults]                                          # for every report; a report's own values come first
    timeout = 600                                       # seconds, for a whole report
    retries = 1                                         # more attempts when a report fails
    formats = ["html", "pdf"]                           # the page is always made
    keep = 10                                           # earlier good reports that are kept
    code = false                                        # true: the page has the code, folded
    parameters = { dataset = "../data/orders.csv" }     # for each notebook that has such a parameter

    [[report]]
    name = "retention"                                  # small letters, digits, _ and -: the folder of the report
    title = "Who stays?"                                # default: the notebook's own title
    notebook = "../notebooks/03_customer_lifecycle.ipynb"
    parameters = { penalizer = 0.01, token = "${TOKEN}" }  # ${…} comes from the environment and is never shown
    matrix = { segment = ["all", "online"] }            # one run for each combination
    secret = ["password"]                               # parameters whose values are never shown
    data = ["../data/*.csv", "s3://shop/prices.csv"]    # what makes the report stale when it changes;
                                                        # files that parameters name are looked at by themselves
"""

import collections
import dataclasses
import difflib
import hashlib
import itertools
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from crmlab.data.masking import LEAST, environment_secrets, mask, passwords, spellings
from crmlab.report.parameters import (
    ParameterError,
    check_parameters,
    files_named,
    locate_dataset,
    parameters_of,
    parse_settings,
    read_notebook,
)
from crmlab.report.publish import FAILED, HISTORY

TIMEOUT = 600
KEEP = 10


class ManifestError(ValueError):
    """A manifest cannot be used; the message lists every fault and says what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One notebook with one set of parameters: one report."""

    slug: str
    title: str
    notebook: Path
    parameters: dict = dataclasses.field(repr=False)
    timeout: float = TIMEOUT
    data: tuple = dataclasses.field(default=(), repr=False)
    formats: tuple = ("html",)
    retries: int = 0
    keep: int = KEEP
    code: bool = False
    secret: tuple = ()
    hidden: frozenset = dataclasses.field(default=frozenset(), repr=False)
    written: dict = dataclasses.field(default_factory=dict, repr=False)

    @property
    def shown(self):
        """The parameters as they may be shown and stored."""
        known = self.known
        return {
            name: "***" if name in self.secret and value else mask(self.written.get(name, value), known)
            for name, value in self.parameters.items()
        }

    @property
    def known(self):
        """The texts that may stand nowhere: passwords, secrets, and those in this process's environment."""
        own = [self.parameters[name] for name in self.secret if name in self.parameters]
        return passwords(self.parameters) | spellings([*own, *self.hidden]) | environment_secrets()


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
    except (ValueError, RecursionError) as error:
        # Also a number of five thousand digits, and brackets in brackets without end.
        raise ManifestError(f"{path} is not TOML: {error}.") from None
    runs, faults = [], _schema_faults(content)
    if not faults:
        defaults = content.get("defaults", {})
        notebooks = {}
        for report in content["report"]:
            expanded, wrong = _expand(path.parent, report, defaults, notebooks)
            runs += expanded
            faults += [f"report {report['name']!r}: {fault}" for fault in wrong]
        known = {parameter.name for declared, *_ in notebooks.values() for parameter in declared}
        if not faults:
            unknown = {name for part in ("parameters", "secret") for name in defaults.get(part, ())} - known
            faults += [f"defaults: no notebook has a parameter {name}" for name in sorted(unknown)]
        faults += [f"{slug!r} is the name of several runs; give each its own." for slug in _twice(runs)]
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


def single_run(notebook, settings=(), timeout=TIMEOUT, secret=(), folder=Path()):
    """Return the run of one notebook without a manifest.

    Parameters
    ----------
    notebook : str or pathlib.Path
        The notebook.
    settings : iterable of str, optional
        Parameters as ``name=value``; ``${NAME}`` in a value comes from the environment and is never shown.
    timeout : float, optional
        Seconds for the whole report.
    secret : iterable of str, optional
        Names of parameters whose values are never shown.
    folder : pathlib.Path, optional
        Folder that relative paths are meant from.

    Returns
    -------
    Run
        Named after the notebook.

    Raises
    ------
    ParameterError
        If the notebook or the parameters cannot be used.
    """
    notebook = Path(notebook)
    content = read_notebook(notebook)
    declared = parameters_of(content, notebook)
    slug = re.sub(r"[^a-z0-9_-]+", "-", notebook.stem.lower()).strip("-")[:80] or "report"
    run = Run(slug, title_of(content) or notebook.stem, notebook, {}, timeout, secret=tuple(secret))
    return _with_values(run, declared, parse_settings(declared, settings), folder)


def refuse_links(out, runs):
    """Refuse a site in which a symbolic link stands where a report would be written: it may lead anywhere.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the site; it may itself be a link.
    runs : list of Run
        Its reports.

    Raises
    ------
    ManifestError
        If there is such a link.
    """
    names = [FAILED, HISTORY, "index.html"]
    names += [top + run.slug for run in runs for top in ("", ".failed/", ".history/")]
    if links := [str(out / name) for name in names if (out / name).is_symlink()]:
        raise ManifestError("\n  ".join(["A site may have no symbolic links in it; remove them:", *links]))


def _schema_faults(content):
    import pydantic

    strict = {"extra": "forbid", "strict": True}
    shared = {
        "timeout": (Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)], TIMEOUT),
        "retries": (Annotated[int, pydantic.Field(ge=0, le=10)], 0),
        "formats": (Annotated[list[Literal["html", "pdf"]], pydantic.Field(min_length=1)], ["html"]),
        "keep": (Annotated[int, pydantic.Field(ge=0, le=1000)], KEEP),
        "code": (bool, False),
        "data": (list[str], []),
        "secret": (list[str], []),
        "parameters": (dict, {}),
    }
    defaults = pydantic.create_model("Defaults", __config__=strict, **shared)
    model = pydantic.create_model(
        "Report",
        __config__=strict,
        name=Annotated[str, pydantic.Field(pattern="^[a-z0-9_-]+$", max_length=80)],
        notebook=str,
        title=(str, ""),
        matrix=(dict[str, Annotated[list, pydantic.Field(min_length=1)]], {}),
        **shared,
    )
    faults = [
        f"{key}: no such key; a manifest has [defaults] and [[report]]"
        for key in sorted(content.keys() - {"defaults", "report"})
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
    given = repr(mask(fault["input"]))[:100]
    if fault["type"] == "string_pattern_mismatch":
        return f"{key}: {given} may only have small letters, digits, _ and -"
    return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}, not {given}"


def _expand(folder, report, defaults, notebooks):
    """Return the runs of one entry and the faults in it; a notebook is read once and kept."""
    notebook = folder / report["notebook"]
    if notebook not in notebooks:
        notebooks[notebook] = _read(notebook)
    declared, heading, fault = notebooks[notebook]
    settings = {name: value for name, value in (defaults | report).items() if name in _SETTINGS}
    settings["formats"] = tuple(dict.fromkeys(["html", *settings.get("formats", [])]))
    faults, files, hidden = [], [], set()
    for name in settings.pop("data", []):
        try:
            place, texts = _from_environment(name)
        except ValueError as error:
            faults.append(f"data: {error}")
            continue
        hidden |= texts
        found = [place] if "://" in place else files_named(folder, place)
        faults += [] if found else [f"data file {folder / name} not found"]
        files += found
    if fault:
        return [], [*faults, fault]
    names = {parameter.name for parameter in declared}
    own = report.get("parameters", {})
    given = {name: value for name, value in defaults.get("parameters", {}).items() if name in names} | own
    matrix = report.get("matrix", {})
    faults += [f"{name} stands in parameters and in matrix; keep one" for name in own if name in matrix]
    secret = [name for name in defaults.get("secret", []) if name in names] + report.get("secret", [])
    faults += [f"secret: there is no parameter {name}" for name in report.get("secret", []) if name not in names]
    faults += [f"{name} is secret; folders are named after what is in matrix" for name in secret if name in matrix]
    settings |= {"data": tuple(files), "secret": tuple(dict.fromkeys(secret)), "hidden": frozenset(hidden)}
    title = report.get("title") or heading or report["name"]
    runs = []
    for values in itertools.product(*matrix.values()):
        cell = dict(zip(matrix, values, strict=True))
        suffix = " – " + ", ".join(f"{key}: {value}" for key, value in mask(cell).items()) if cell else ""
        run = Run(_slug(report["name"], mask(cell)), title + suffix, notebook, {}, **settings)
        try:
            runs.append(_with_values(run, declared, given | cell, folder))
        except ParameterError as error:
            faults += error.faults
    # A fault in the fixed parameters shows in each combination; once is enough.
    return runs, list(dict.fromkeys(faults))


_SETTINGS = ("timeout", "retries", "formats", "keep", "code", "data")


def _read(notebook):
    """Return parameters and heading of a notebook, or none and what is wrong with it."""
    try:
        content = read_notebook(notebook)
        return parameters_of(content, notebook), title_of(content), None
    except ParameterError as error:
        return [], None, str(error).replace("\n", "\n  ")


def _with_values(run, declared, given, folder):
    """Return the run with these values, checked and ready for the kernel."""
    values, written, hidden, faults = {}, {}, set(run.hidden), []
    for name, value in given.items():
        try:
            values[name], texts = _from_environment(value)
        except ValueError as error:
            faults.append(f"{name}: {error}")
            continue
        if texts:
            written[name] = value
            hidden |= texts
    defaults = {parameter.name: parameter.default for parameter in declared}
    for name in run.secret:
        if fault := _secret_fault(values.get(name)):
            faults.append(f"{name}: {fault}")
        # Anybody may read it in the notebook; the report still need not repeat it.
        hidden |= set(_texts(defaults.get(name)))
    known = spellings([*hidden, *(_texts([values.get(name) for name in run.secret]))]) | passwords(values)
    try:
        checked = check_parameters(declared, values, known)
        located, files = locate_dataset(checked, folder, run.notebook)
    except ParameterError as error:
        faults += error.faults
    if faults:
        raise ParameterError("Parameters that cannot be used:", faults, known)
    # A path looks different from the notebook's folder.
    hidden |= {text for name in written for text in _texts(located[name])}
    return dataclasses.replace(
        run, parameters=located, data=run.data + files, hidden=frozenset(hidden), written=written
    )


def _from_environment(value):
    """Put the environment's values in place of ``${NAME}``; return them apart, too. ``$${`` stands for ``${``."""
    if isinstance(value, list):
        parts = [_from_environment(item) for item in value]
        return [part for part, _ in parts], set().union(*(texts for _, texts in parts))
    if not isinstance(value, str):
        return value, set()
    texts = set()

    def put(match):
        if match[1]:
            return match[0][1:]
        text = os.environ.get(match[2], "")
        if not text:
            raise ValueError(f"the environment has no variable {match[2]}")
        if len(text) < LEAST:
            raise ValueError(
                f"the variable {match[2]} has fewer than {LEAST} characters, too few to be hidden wherever they stand; "
                "what need not be hidden is written into the manifest itself"
            )
        texts.add(text)
        return text

    return re.sub(r"\$(\$?)\{([^}]*)\}", put, value), texts


def _secret_fault(value):
    """Say why a value cannot be kept secret, if so; nothing is nothing to hide."""
    texts = _texts(value)
    if value in (None, "", []):
        return None
    if not texts or (isinstance(value, list) and len(texts) < len(value)):
        return "is secret and no text; only texts can be hidden"
    if any(len(text) < LEAST for text in texts if text):
        return f"is secret and has fewer than {LEAST} characters, too few to be hidden wherever they stand"
    return None


def _texts(value):
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) and value else []


def _slug(name, cell):
    texts = [f"{key}-{value}".lower() for key, value in cell.items()]
    safe = [re.sub(r"[^a-z0-9._-]+", "-", text) for text in texts]
    slug = "--".join([name, *safe])
    if len(slug) <= 80 and [f"{key}-{value}" for key, value in cell.items()] == safe:
        return slug
    # What a folder's name cannot hold is told apart by a hash.
    return f"{slug[:70]}-{hashlib.sha256(json.dumps(cell, default=str).encode()).hexdigest()[:8]}"


def _twice(runs):
    return [slug for slug, count in collections.Counter(run.slug for run in runs).items() if count > 1]
