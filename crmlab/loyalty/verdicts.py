"""Numbers to guarded sentences: what an interval allows to say, and nothing beyond it."""

import math

from crmlab.data.errors import DataError


def verdict(about, **numbers):
    """Say in one sentence what an estimate and its interval allow to say.

    Parameters
    ----------
    about : str
        The question: ``"distinct"``, ``"effect"``, ``"difference"``, ``"cell"``, ``"tolerance"``, ``"shape"``,
        ``"driver"``, ``"asymmetry"``, ``"parallel"``, ``"moderation"``, ``"value"``.
    **numbers
        What the answer rests on: for most questions `estimate`, `low` and `high` (95 % interval) and the names of what
        is compared; the message of a wrong call names what is missing.

    Returns
    -------
    str
        The sentence.

    Raises
    ------
    DataError
        An unknown question, a number that is missing or superfluous, an interval that is upside down.

    Notes
    -----
    ``distinct`` (one, other, estimate, low, high, limit): HTMT of two constructs. ``effect`` (cause, outcome, estimate,
    low, high). ``difference`` (what, one, other, estimate, low, high): of one less the other. ``cell`` (name, share,
    low, high, smallest, largest): with its range over all cut-offs. ``tolerance`` (rise, best, worst, low, high).
    ``shape`` (outcome, p_value, gain, low, high): departure from a straight line, and what a curve gains on unseen
    answers. ``driver`` (feature, rank, rank_low, rank_high, of). ``asymmetry`` (feature, kind). ``parallel`` (p_value,
    smallest, largest): odds ratios over the borders. ``moderation`` (moderator, cause, outcome, estimate, low, high).
    ``value`` (one, other, estimate, low, high, unit, unprofitable).

    Examples
    --------
    >>> print(verdict("distinct", one="satisfaction", other="loyalty", estimate=.95, low=.91, high=.99))
    In this sample satisfaction and loyalty are not distinguishable (HTMT .95, 95 % interval .91 to .99, limit .90).
    """
    if about not in _SENTENCES:
        raise DataError(f"There is no verdict about {about!r}; there are {', '.join(_SENTENCES)}.")
    sentence = _SENTENCES[about]
    expected = sentence.__code__.co_varnames[: sentence.__code__.co_argcount]
    optional = expected[len(expected) - len(sentence.__defaults__ or ()) :]
    absent = [name for name in expected if name not in numbers and name not in optional]
    if absent or set(numbers) - set(expected):
        given = ", ".join(numbers) or "nothing"
        raise DataError(f"A verdict about {about!r} needs {', '.join(expected)}; it was given {given}.")
    for low, high in (("low", "high"), ("rank_low", "rank_high"), ("best", "worst"), ("smallest", "largest")):
        if _known(numbers.get(low), numbers.get(high)) and numbers[low] > numbers[high]:
            raise DataError(f"The interval is upside down: {low} {numbers[low]:g} is above {high} {numbers[high]:g}.")
    return sentence(**numbers)


def _known(*numbers):
    return all(n is not None and math.isfinite(n) for n in numbers)


def _text(x, digits=2):
    """A number: .91, -.07, 1.03, 1,240."""
    text = f"{x:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _digits(limit, *values, least=2):
    """So many that rounding puts no value on the limit which it is not on."""
    return next((d for d in range(least, 8) if all(round(v, d) != round(limit, d) or v == limit for v in values)), 8)


def _estimate(estimate, low, high, least=2, limit=0.0):
    d = _digits(limit, low, high, least=least)
    return f"{_text(estimate, d)}, 95 % interval {_text(low, d)} to {_text(high, d)}"


def _percent(share):
    return f"{100 * share:.0f}"


def _distinct(one, other, estimate, low, high, limit=0.90):
    if not _known(estimate, low, high):
        return f"Whether {one} and {other} are distinguishable in this sample cannot be judged: there is no interval."
    numbers = f"(HTMT {_estimate(estimate, low, high, limit=limit)}, limit {_text(limit)})"
    if high < limit:
        return f"In this sample {one} and {other} are distinguishable {numbers}."
    if low >= limit:
        return f"In this sample {one} and {other} are not distinguishable {numbers}."
    return f"In this sample it is not settled whether {one} and {other} are distinguishable {numbers}."


def _effect(cause, outcome, estimate, low, high):
    if not _known(estimate, low, high):
        return f"Whether {outcome} goes with {cause} cannot be judged: the estimate has no interval."
    numbers = f"({_estimate(estimate, low, high)})"
    if low > 0:
        return f"In this sample {outcome} rises with {cause} {numbers}; that is an association, not yet a cause."
    if high < 0:
        return f"In this sample {outcome} falls with {cause} {numbers}; that is an association, not yet a cause."
    return f"This sample does not show that {outcome} goes with {cause} {numbers}, nor that it does not."


def _difference(what, one, other, estimate, low, high):
    if not _known(estimate, low, high):
        return f"Whether {what} differs between {one} and {other} cannot be judged: the difference has no interval."
    numbers = f"(difference {_estimate(estimate, low, high)})"
    if low > 0 or high < 0:
        return f"In this sample {what} is {'higher' if low > 0 else 'lower'} for {one} than for {other} {numbers}."
    return f"This sample does not show which of {one} and {other} has the higher {what} {numbers}."


def _cell(name, share, low, high, smallest, largest):
    if not _known(share, low, high, smallest, largest):
        return f"The share of {name} cannot be stated: it has no interval or no range over the cut-offs."
    return (
        f"At the chosen cut-offs {_percent(share)} % are {name} (95 % interval {_percent(low)} to {_percent(high)} %); "
        f"over all cut-offs it runs from {_percent(smallest)} to {_percent(largest)} %: its size is partly a choice."
    )


def _tolerance(rise, best, worst, low, high):
    if not _known(rise, best, worst, low, high):
        return "What a price rise would cost cannot be stated: the bounds or their interval are missing."
    said = f"+{rise:g} % would lose between {_percent(best)} and {_percent(worst)} % of them"
    sampling = f"with sampling error {_percent(low)} to {_percent(high)} %"
    if _percent(best) == _percent(worst):
        said = f"+{rise:g} % would lose {_percent(best)} % of them"
        return f"By what customers say, {said} ({sampling}); what they say is not what they do."
    return (
        f"By what customers say, {said}, depending on those who did not answer ({sampling}); what they say is not what "
        "they do."
    )


def _shape(outcome, p_value, gain, low, high):
    """The lack of fit of the line, and the share of the squared error that a curve saves on unseen answers."""
    if not _known(gain, low, high):
        return f"Which shape describes {outcome} cannot be judged."
    numbers = f"(gain on unseen answers {_estimate(100 * gain, 100 * low, 100 * high, least=1)} % of the squared error"
    numbers += f"; lack of fit of the line, p = {p_value:.2g})" if _known(p_value) else ")"
    if low > 0:
        return f"A curve describes {outcome} better than a straight line {numbers}; a bend alone is no proof of zones."
    if _known(p_value) and p_value < 0.05:
        return f"A straight line does not fit {outcome} exactly, but no curve is shown to predict it better {numbers}."
    return f"This sample does not show that {outcome} departs from a straight line {numbers}."


def _driver(feature, rank, rank_low, rank_high, of):
    if not _known(rank, rank_low, rank_high):
        return f"The rank of {feature} among {of} drivers cannot be judged: it has no interval."
    if rank_low == rank_high:
        return f"{feature} is number {rank:.0f} of {of} drivers, in this sample and in at least 95 % of the resamples."
    rest = f"its rank may be {rank_low:.0f} to {rank_high:.0f}"
    return f"{feature} is number {rank:.0f} of {of} drivers in this sample; {rest}."


def _asymmetry(feature, kind):
    sentences = {
        "basic": "a bad answer takes more than a good one gives: a basic factor, at these cut-offs",
        "excitement": "a good answer gives more than a bad one takes: an excitement factor, at these cut-offs",
        "performance": "good and bad answers weigh about the same: a performance factor, at these cut-offs",
        "undecided": "good or bad answers matter, but which more is not settled",
        "no effect shown": "neither good nor bad answers are shown to matter",
        "reversed": "a better answer goes with a worse outcome once the other features are held constant: look for "
        "features that overlap before reading it",
    }
    if kind not in sentences:
        raise DataError(f"There is no kind {kind!r} of feature; there are {', '.join(sentences)}.")
    return f"{feature}: {sentences[kind]}."


def _parallel(p_value, smallest, largest):
    if not _known(p_value, smallest, largest):
        return "Whether one odds ratio serves all borders of the scale cannot be judged: some border has no estimate."
    numbers = f"(Brant p = {p_value:.2g}; odds ratios from {smallest:.2f} to {largest:.2f})"
    if p_value < 0.05:
        return f"One odds ratio for all borders of the scale is a simplification {numbers}."
    return f"This sample does not show that the odds ratio changes along the scale {numbers}."


def _moderation(moderator, cause, outcome, estimate, low, high):
    if not _known(estimate, low, high):
        return f"Whether {moderator} changes what {cause} does to {outcome} cannot be judged: there is no interval."
    numbers = f"({_estimate(estimate, low, high)})"
    if low > 0 or high < 0:
        way = "larger" if low > 0 else "smaller"
        return f"In this sample the slope of {outcome} on {cause} is {way}, the higher {moderator} {numbers}."
    return f"This sample does not show that {moderator} changes how {outcome} goes with {cause} {numbers}."


def _value(one, other, estimate, low, high, unit, unprofitable=False):
    if not _known(estimate, low, high):
        return f"What {one} are worth beyond {other} cannot be stated: there is no interval."
    numbers = f"(difference in {unit} a customer {_estimate(estimate, low, high, least=0)})"
    stated = "At the stated margin, cost and discount rate"
    if unprofitable:
        return f"{stated}, {one} cost more than they bring: keeping them adds to the loss {numbers}."
    if low > 0 or high < 0:
        return f"{stated}, {one} are worth {'more' if low > 0 else 'less'} than {other} {numbers}."
    return f"{stated}, it is not settled whether {one} or {other} are worth more {numbers}."


_SENTENCES = {
    "distinct": _distinct,
    "effect": _effect,
    "difference": _difference,
    "cell": _cell,
    "tolerance": _tolerance,
    "shape": _shape,
    "driver": _driver,
    "asymmetry": _asymmetry,
    "parallel": _parallel,
    "moderation": _moderation,
    "value": _value,
}
