"""The ledger of claims, its verdicts computed anew, and where each item of the sources is treated."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator

from crmlab.cases.checks import CHECKS
from crmlab.data.errors import DataError
from crmlab.data.files import own_file

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Z]\d\d$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Reading(_Entry):
    reading: Words
    verdict: Literal["holds", "depends", "contradicted", "uncheckable"]
    computation: str = ""
    why: str = ""

    @model_validator(mode="after")
    def _is_founded(self):
        if bool(self.computation.strip()) == bool(self.why.strip()):
            raise ValueError("needs either computation (what computes the verdict) or why (why nothing can), not both")
        if self.computation and self.computation not in CHECKS:
            known = ", ".join(sorted(CHECKS))
            raise ValueError(f"computation {self.computation!r} does not exist; there are {known}")
        return self


class _Claim(_Entry):
    claim: Words
    seed: Words
    quotation: Words
    translation: Words
    attributed: str
    origin: Words
    reference: Words
    verified: bool
    from_memory: str = ""
    notebook: Words
    section: Words
    readings: list[_Reading]

    @model_validator(mode="after")
    def _says_what_is_from_memory(self):
        if self.verified == bool(self.from_memory.strip()):
            raise ValueError("from_memory says what was not seen: give it with verified = false, and only then")
        if not self.readings:
            raise ValueError("needs at least one reading with a verdict")
        names = [each.reading for each in self.readings]
        if len(set(names)) < len(names):
            raise ValueError("two readings have the same words")
        return self


class _Home(_Entry):
    notebook: Words
    section: Words


class _Item(_Entry):
    item: Words
    seed: Words
    homes: list[_Home] = []
    form: str = ""

    @model_validator(mode="after")
    def _has_a_home(self):
        if not self.homes and not self.form.strip():
            raise ValueError("needs homes (notebook and section), or form: what it is instead of being built")
        return self


def claims(file=None):
    """Return the ledger: every claim of the sources that a number or a text could test, with its verdicts.

    Parameters
    ----------
    file : str or pathlib.Path, optional
        A ledger of your own, in the form of ``data/claims.toml``, whose head explains it; by default that file.

    Returns
    -------
    pandas.DataFrame
        One row a reading of a claim, indexed by `id` and `reading`: `verdict` (holds, depends, contradicted,
        uncheckable), `computation` (what computes it) or `why` (why nothing can), `claim`, `seed`, `quotation`,
        `translation`, `attributed`, `origin`, `reference`, `verified`, `from_memory`, `notebook`, `section`.

    Raises
    ------
    DataError
        When the file cannot be read or breaks the form; every fault is listed, with entry and field.

    Examples
    --------
    >>> claims().loc["F07", "verdict"].to_dict()
    {'as retention of customers': 'contradicted', 'as share of repeat orders': 'holds'}
    """
    entries = _read(file or own_file("claims.toml"), dict[Name, _Claim])
    rows = [
        {"id": name, **reading.model_dump(), **entry.model_dump(exclude={"readings"})}
        for name, entry in entries.items()
        for reading in entry.readings
    ]
    return pd.DataFrame(rows).set_index(["id", "reading"])


def verdicts(ledger=None):
    """Compute every verdict of a ledger anew, and set it beside what the ledger says.

    Parameters
    ----------
    ledger : pandas.DataFrame, optional
        From `claims`; the package's own by default.

    Returns
    -------
    pandas.DataFrame
        Indexed as the ledger: `ledger` and `computed` (verdicts; the second empty where nothing can be computed),
        `agree` (missing there), `says` (the numbers in words, or why there are none), `rule` (how the numbers decide).

    Examples
    --------
    >>> verdicts(claims().loc[["F09"]])["computed"].tolist()
    ['holds', '']
    """
    ledger = claims() if ledger is None else ledger
    found = {name: CHECKS[name]() for name in sorted(set(ledger["computation"]) - {""})}
    computed = [found[name].verdict if name else "" for name in ledger["computation"]]
    table = ledger[["verdict"]].rename(columns={"verdict": "ledger"})
    return table.assign(
        computed=computed,
        agree=[None if not own else own == said for own, said in zip(computed, ledger["verdict"], strict=True)],
        says=[
            found[name].says if name else why for name, why in zip(ledger["computation"], ledger["why"], strict=True)
        ],
        rule=[found[name].rule if name else "" for name in ledger["computation"]],
    )


def coverage(file=None, ledger=None):
    """Return where the workbook treats each item of the source documents, or what it is instead.

    Parameters
    ----------
    file : str or pathlib.Path, optional
        A file in the form of ``data/coverage.toml``; by default that file.
    ledger : pandas.DataFrame, optional
        From `claims`: the claims (F01, …) have their home there. The package's own by default.

    Returns
    -------
    pandas.DataFrame
        One row a home, indexed by `id` (A01 to F19): `item`, `seed`, `status` ("built", "in another form", "not
        built"), `notebook`, `section` (empty where nothing is built), `form` (the honest form of what is not built as
        the source has it).

    Raises
    ------
    DataError
        When the file cannot be read or breaks the form; every fault is listed, with entry and field.

    Examples
    --------
    >>> coverage().loc["A22", ["status", "form"]].tolist()
    ['not built', 'hardware is out of scope: one sentence in the README']
    """
    entries = _read(file or own_file("coverage.toml"), dict[Name, _Item])
    ledger = claims() if ledger is None else ledger
    own = ledger.reset_index("reading").groupby(level="id").first()
    rows = [
        {"id": name, "item": row["claim"], "seed": row["seed"], "notebook": row["notebook"], "section": row["section"]}
        for name, row in own.iterrows()
        if name not in entries
    ]
    for name, entry in entries.items():
        facts = {"id": name, "item": entry.item, "seed": entry.seed, "form": entry.form}
        rows += [facts | home.model_dump() for home in entry.homes] or [facts]
    table = pd.DataFrame(rows).fillna("").set_index("id").sort_index(kind="stable")
    status = (
        table["form"]
        .map(lambda form: "in another form" if form else "built")
        .where(table["notebook"] != "", "not built")
    )
    return table.assign(status=status)[["item", "seed", "status", "notebook", "section", "form"]]


def _read(file, form):
    """A TOML file in a form, or every fault of it in words."""
    try:
        content = tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{file} is not UTF-8 text; save it as UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{file} is not TOML: {error}.") from None
    if not content:
        raise DataError(f"{file} has no entries.")
    try:
        return TypeAdapter(form).validate_python(content)
    except ValidationError as error:
        faults = [_in_words(fault) for fault in error.errors()]
        raise DataError("\n  ".join([f"{file} cannot be used:", *dict.fromkeys(faults)])) from None


def _in_words(fault):
    entry, *where = (str(part) for part in fault["loc"])
    if where and where[0] == "[key]":
        return f"{entry}: an entry is named by a capital letter and two digits, such as F20."
    # Positions in lists count from 0; people count from 1.
    place = " ".join(str(int(part) + 1) if part.isdigit() else part for part in where)
    said = {
        "missing": "is missing",
        "model_type": "must be a table with fields of its own",
        "list_type": "must be a list",
        "extra_forbidden": "is no field of an entry",
        "string_too_short": "is empty",
    }.get(fault["type"], re.sub("^(Value error, |Input )", "", fault["msg"]))
    return f"{entry}: {place} {said}." if place else f"{entry}: {said}."
