"""Whether the answers fit the questionnaire: codes, filters, the scale, straight-liners, items that say nothing."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty import questionnaire
from crmlab.loyalty.questionnaire import SurveySpec, coded, faults_in_words

BATTERY = 5
"""Fewer answers than this do not make a straight line."""

COPY = 0.95
"""Two questions that correlate more than this are hardly two."""


@dataclass(frozen=True, repr=False)
class SurveyAudit:
    """What `audit` found.

    Parameters
    ----------
    spec : SurveySpec
        What was asked.
    rows : int
        Number of respondents.
    items : pandas.DataFrame
        One row an item: `answers`, `blank`, `missing_code`, `not_asked`, `special`, `faults`, `missing_share` (blanks
        and missing codes among those asked), `lowest`, `highest`, `mean`, `sd`, `floor` and `ceiling` (shares at either
        end of the scale), `same_as` (an item with the same answers in every row).
    respondents : pandas.DataFrame
        One row a respondent: `answers`, `straight_line` (the one answer given to every question of a battery; blank
        for everybody else).
    faults : pandas.DataFrame
        The cells that do not fit: `row` (counted from 1), `column`, `value`, `problem`.
    warnings : list of str
        What a reader should know before any measure.
    data : pandas.DataFrame
        The data as they came.
    """

    spec: SurveySpec
    rows: int
    items: pd.DataFrame
    respondents: pd.DataFrame
    faults: pd.DataFrame
    warnings: list
    data: pd.DataFrame

    @property
    def clean(self):
        """The data with missing codes as blanks and groups in words; reversed items as they were asked.

        Raises a `DataError` while there are cells that do not fit.
        """
        if len(self.faults):
            raise DataError(faults_in_words(self.faults, self.rows), faults=self.faults)
        numbers, _, _ = coded(self.data, self.spec, self.spec.items)
        groups = {
            column: questionnaire.groups_of(self.data, self.spec, column)
            for column in self.spec.values
            if column in self.data.columns
        }
        return self.data.assign(**numbers, **groups)

    def __repr__(self):
        return str(self)

    def __str__(self):
        head = f"{self.spec.title or 'Survey'}: {self.rows:,} respondents, {len(self.items)} items"
        faults = [faults_in_words(self.faults, self.rows)] if len(self.faults) else []
        return "\n".join([head, *faults, *(f"- {w}" for w in self.warnings)])


def audit(data, spec):
    """Check the answers of a survey against its description, before any measure.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked; see `crmlab.loyalty.spec`.

    Returns
    -------
    SurveyAudit
        Tables of items, respondents and faults, warnings in words, and `clean`: the data with missing codes as blanks.

    Raises
    ------
    DataError
        When an item is not in the data, or the scale is wrong: more than 5 % of an item's answers lie off it.

    Examples
    --------
    >>> from crmlab import data
    >>> found = audit(data.load("corporate_reputation").to_pandas(), "corporate_reputation")
    >>> int(found.items["missing_code"].sum())
    11
    """
    asked = questionnaire.spec(spec)
    numbers, kinds, faults = coded(data, asked, asked.items)
    _refuse_wrong_scale(faults, kinds, asked, len(data))
    given = numbers.where(kinds == "answer")
    counts = {kind: (kinds == kind).sum() for kind in ("answer", "blank", "missing code", "not asked", "special")}
    ends = pd.DataFrame({item: asked.scale_of(item) for item in asked.items}, index=["low", "high"])
    n = counts["answer"].where(counts["answer"] > 0)
    items = pd.DataFrame(
        {
            "answers": counts["answer"],
            "blank": counts["blank"],
            "missing_code": counts["missing code"],
            "not_asked": counts["not asked"],
            "special": counts["special"],
            "faults": (kinds == "fault").sum(),
            "missing_share": (counts["blank"] + counts["missing code"])
            / (len(data) - counts["not asked"]).replace(0, np.nan),
            "lowest": given.min(),
            "highest": given.max(),
            "mean": given.mean(),
            "sd": given.std(),
            "floor": given.eq(ends.loc["low"]).sum() / n,
            "ceiling": given.eq(ends.loc["high"]).sum() / n,
            "same_as": _duplicates(given),
        }
    ).rename_axis("item")
    respondents = pd.DataFrame({"answers": (kinds == "answer").sum(axis=1), "straight_line": _straight(given, asked)})
    return SurveyAudit(asked, len(data), items, respondents, faults, _warnings(items, respondents, given, asked), data)


def _refuse_wrong_scale(faults, kinds, asked, rows):
    """A few cells off the scale are mistakes of entry; many are a wrong scale, on which every index would mislead."""
    off = faults[faults["problem"].str.startswith("is off the scale")]
    for item, cells in off.groupby("column", sort=False):
        judged = int(kinds[item].isin(["answer", "fault"]).sum())
        if len(cells) > max(1, 0.05 * judged):
            low, high = asked.scale_of(item)
            raise DataError(
                f"The scale {low:g} to {high:g} cannot be that of {item}: {len(cells):,} of {judged:,} answers lie "
                f"off, the first in row {cells['row'].iloc[0]}.\n" + faults_in_words(faults, rows),
                faults=faults,
            )


def _duplicates(given):
    """For each item, the first one before it with the same answers in every row."""
    seen, found = {}, pd.Series(pd.NA, index=given.columns, dtype="string")
    for item in given.columns[given.notna().any()]:
        key = given[item].to_numpy().tobytes()
        if key in seen:
            found[item] = seen[key]
        seen.setdefault(key, item)
    return found


def _straight(given, asked):
    """The one answer of those who gave the same to every question of the largest group on the same scale."""
    measured = [item for items in asked.constructs.values() for item in items]
    scales = pd.Series({item: asked.scale_of(item) for item in measured})
    battery = given[scales.index[scales == scales.mode()[0]]]
    flat = (battery.count(axis=1) >= BATTERY) & (battery.min(axis=1) == battery.max(axis=1))
    return battery.max(axis=1).where(flat)


def _warnings(items, respondents, given, asked):
    found = []
    r = given.corr(min_periods=10).abs().to_numpy()
    for i, j in zip(*np.where(np.triu(r, 1) > COPY), strict=True):
        one, other = given.columns[[i, j]]
        if items.loc[other, "same_as"] is pd.NA:
            found.append(f"{one} and {other} correlate {r[i, j]:.3f}: they are hardly two questions")
    for item, row in items.iterrows():
        if not row["answers"]:
            found.append(f"{item} has no answer at all")
        elif row["lowest"] == row["highest"]:
            found.append(f"{item} is constant: every answer is {row['lowest']:g}")
        elif not pd.isna(row["same_as"]):
            found.append(f"{item} has the same answers as {row['same_as']} in every row")
        if row["special"]:
            found.append(f"{item} holds {row['special']:,} special codes, kept apart from its scale")
        if row["missing_share"] > 0.2 and row["answers"]:
            found.append(f"{item} is missing for {row['missing_share']:.0%} of those asked")
        if row["ceiling"] > 0.5:
            found.append(f"{item} has {row['ceiling']:.0%} of its answers at the top: it cannot tell the best apart")
    for ends in {asked.scale_of(item): None for item in items.index}:
        same = items[[asked.scale_of(item) == ends for item in items.index]]
        if same["answers"].sum() >= 100:
            for end, used, word in (
                (ends[0], same["lowest"].min(), "below"),
                (ends[1], same["highest"].max(), "above"),
            ):
                if end != used:
                    found.append(
                        f"no answer lies {word} {used:g} although the scale {ends[0]:g} to {ends[1]:g} ends at {end:g} "
                        f"({', '.join(same.index[:3])}{', …' if len(same) > 3 else ''}): is that the scale?"
                    )
    lines = respondents["straight_line"].dropna()
    if len(lines):
        common = lines.value_counts()
        found.append(
            f"{len(lines):,} of {len(respondents):,} respondents ({len(lines) / len(respondents):.1%}) gave one answer "
            f"to every question (most often {common.index[0]:g}): straight-liners raise every correlation"
        )
    if silent := int((respondents["answers"] == 0).sum()):
        found.append(f"{silent:,} respondents answered nothing")
    return found
