"""Duplicates by probability: the Fellegi-Sunter model of the package splink, on the same normal forms as the rules."""

from crmlab.data.errors import DataError
from crmlab.data.identity import Proposals, _kind, _oversize_frame, normalize, open_records
from crmlab.data.textfile import keep_arrow, quoted

COMPARISONS = ("name", "text", "date", "code", "exact")


def propose_likely_duplicates(
    records, compare, blocks, *, key="record_id", kinds=None, sure=None, probability=0.9, seed=1
):
    """Propose pairs of records that are probably one customer, by the Fellegi-Sunter model of splink.

    How often a field agrees by chance is estimated from random pairs, how often it agrees for the same customer by
    expectation and maximisation; no truth is needed. Needs the extra `identity`. Nothing is merged: see `merge`.

    Parameters
    ----------
    records : str, pathlib.Path, frame or ibis.Table
        One row a record; anything that `crmlab.data.load` opens.
    compare : dict
        Column to how it is compared: "name" or "text" (Jaro-Winkler), "date" (days, months and years apart), "code"
        (numbers in which digits are mistyped), "exact".
    blocks : list of sequence of str
        Pairs are compared when they agree in all columns of one of these; the first two also train the model.
    key : str, default "record_id"
        Column that identifies a record.
    kinds : dict, optional
        Column to the way it is normalised, see `propose_duplicates`.
    sure : list of sequence of str, optional
        Rules that hold for almost no two different customers, from which the model learns how rare duplicates are; by
        default `blocks`.
    probability : float, default 0.9
        Least probability of a pair.
    seed : int, default 1
        Of the random pairs.

    Returns
    -------
    Proposals
        `pairs`: left, right, score (the probability), reasons, differs; `oversize` is empty.

    Raises
    ------
    DataError
        The package is not installed, a column is not there, or the model cannot be fitted.

    Examples
    --------
    >>> from crmlab.data import load
    >>> found = propose_likely_duplicates(
    ...     load("febrl3"), {"surname": "name", "date_of_birth": "date"}, [("surname",), ("date_of_birth",)]
    ... )  # doctest: +SKIP
    """
    try:
        import duckdb
        import splink.comparison_library as comparisons
        from splink import DuckDBAPI, Linker, SettingsCreator, block_on
    except ImportError:
        raise DataError(
            "Duplicates by probability need the package splink, which is not installed: "
            "pip install 'crmlab[identity]'. propose_duplicates works without it, by exact rules."
        ) from None
    if unknown := [how for how in compare.values() if how not in COMPARISONS]:
        raise DataError(f"compare: {unknown[0]!r} is no comparison; these are {', '.join(COMPARISONS)}.")
    if len(compare) < 2 or len(blocks) < 2:
        raise DataError("The model needs at least two columns to compare and two blocks.")
    if not 0 < probability < 1:
        raise DataError(f"probability={probability} must lie between 0 and 1.")
    table, name = open_records(records, key)
    blocks = [(block,) if isinstance(block, str) else tuple(block) for block in blocks]
    columns = list(dict.fromkeys([*compare, *(c for rule in (*blocks, *(sure or ())) for c in rule)]))
    staged = normalize(table, name, key, columns, kinds)
    field = {column: f"n{i}" for i, column in enumerate(columns)}

    def comparison(column, how):
        cell = field[column]
        if how == "date":
            if _kind(column, kinds) != "date":
                raise DataError(f"compare: {column!r} is compared as a date; say so in kinds={{{column!r}: 'date'}}.")
            return comparisons.DateOfBirthComparison(cell, input_is_string=True)
        if how == "code":
            # Damerau's distance, in which a swap is one step, takes the engine five times as long.
            return comparisons.LevenshteinAtThresholds(cell, [1, 2])
        if how == "exact":
            return comparisons.ExactMatch(cell)
        found = comparisons.JaroWinklerAtThresholds(cell, [0.92, 0.8])
        return found.configure(term_frequency_adjustments=True) if how == "name" else found

    def rules(columns_of):
        return [block_on(*(field[c] for c in rule)) for rule in columns_of]

    settings = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="rid",
        comparisons=[comparison(column, how) for column, how in compare.items()],
        blocking_rules_to_generate_predictions=rules(blocks),
        retain_intermediate_calculation_columns=False,
    )
    # A database of its own: what splink builds is gone when the answer is there.
    with duckdb.connect() as own:
        api = DuckDBAPI(own)
        linker = Linker(api.register(staged.to_pyarrow()), settings, log_level=None)
        linker.training.estimate_probability_two_random_records_match(rules(sure or blocks), recall=0.8)
        linker.training.estimate_u_using_random_sampling(max_pairs=1.2e6, seed=seed)
        for rule in rules(blocks[:2]):
            linker.training.estimate_parameters_using_expectation_maximisation(rule)
        found = linker.inference.predict(threshold_match_probability=probability)
        pairs = found.as_pyarrow_table()
    return Proposals(_in_words(pairs, {column: field[column] for column in compare}), _oversize_frame([]))


def _in_words(pairs, field):
    """Pairs with what speaks for and against them, in the embedded engine."""
    same = [
        f"CASE WHEN {f}_l = {f}_r THEN {quoted(f'same {c}')} WHEN gamma_{f} > 0 THEN {quoted(f'similar {c}')} END"
        for c, f in field.items()
    ]
    other = [f"CASE WHEN gamma_{f} = 0 THEN {quoted(c)} END" for c, f in field.items()]
    return keep_arrow(
        pairs,
        'least(rid_l, rid_r) AS "left", greatest(rid_l, rid_r) AS "right", match_probability AS score, '
        f"concat_ws('; ', {', '.join(same)}) AS reasons, concat_ws(', ', {', '.join(other)}) AS differs",
    )
