"""Claims on firms and markets, tested on numbers that were entered by hand, or on simulated firms."""

from crmlab.cases.entered import hand_entered
from crmlab.cases.findings import Finding
from crmlab.cases.growth import growth_curves, growth_forecast, growth_scores
from crmlab.cases.selection import adopters_against_others


def dell_growth_table():
    """Return four fiscal years of Dell with their growth.

    Returns
    -------
    pandas.DataFrame
        Indexed by `fiscal_year` (it ends in January): `sales` and `net_income` (million dollars), `growth` of sales
        over the year before.

    Examples
    --------
    >>> dell_growth_table()["growth"].mul(100).round(1).dropna().tolist()
    [21.0, 52.4, 46.5]
    """
    table = hand_entered("dell").set_index("fiscal_year")
    return table.assign(growth=table["sales"].pct_change())[["sales", "net_income", "growth", "verified"]]


def web_share_bound(per_day=1.0):
    """Return the most that sales over the web can have been of Dell's sales, and of their growth, in fiscal 1997.

    In early 1997 the firm announced web sales of more than a million dollars a day; they began in July 1996. Counting
    the announced rate on all 365 days therefore is generous.

    Parameters
    ----------
    per_day : float
        Web sales, million dollars a day.

    Returns
    -------
    dict
        `of_sales` and `of_growth`, shares.

    Examples
    --------
    >>> {name: round(share, 3) for name, share in web_share_bound().items()}
    {'of_sales': 0.047, 'of_growth': 0.148}
    """
    sales = dell_growth_table()["sales"]
    web = 365 * per_day
    return {"of_sales": float(web / sales[1997]), "of_growth": float(web / (sales[1997] - sales[1996]))}


def dell_loss():
    """Return whether Dell made a loss in 1995 (F06).

    Returns
    -------
    Finding
        With the net income of the fiscal years that have months of 1995.

    Examples
    --------
    >>> dell_loss().verdict
    'contradicted'
    """
    income = dell_growth_table()["net_income"]
    losses = int((income[[1995, 1996]] < 0).sum())
    return Finding(
        ("contradicted", "depends", "holds")[losses],
        f"net income {income[1995]:.1f} (to January 1995) and {income[1996]:.0f} million dollars (to January 1996); "
        f"the loss, {-income[1994]:.1f}, was a year before",
        "holds if both fiscal years with months of 1995 show a loss, contradicted if neither does",
        income.add_prefix("fy").to_dict(),
    )


def dell_growth():
    """Return whether Dell's sales grew by 71 % in any of these years (F06).

    Returns
    -------
    Finding
        With the three growth rates.

    Examples
    --------
    >>> dell_growth().says
    'sales grew by 21.0%, 52.4% and 46.5% in the fiscal years 1995 to 1997'
    """
    growth = dell_growth_table()["growth"].dropna()
    right = ((growth - 0.71).abs() < 0.01).any()
    return Finding(
        "holds" if right else "contradicted",
        f"sales grew by {growth[1995]:.1%}, {growth[1996]:.1%} and {growth[1997]:.1%} in the fiscal years 1995 to 1997",
        "holds if one of the fiscal years 1995 to 1997 grew by 71 %, give or take one point",
        growth.add_prefix("fy").to_dict(),
    )


def dell_web():
    """Return whether the web can have made Dell's growth (F06).

    Returns
    -------
    Finding
        With the bounds of `web_share_bound`.

    Examples
    --------
    >>> dell_web().verdict
    'contradicted'
    """
    bound = web_share_bound()
    return Finding(
        "contradicted" if bound["of_growth"] < 0.5 else "depends",
        f"at most {bound['of_sales']:.1%} of the sales and {bound['of_growth']:.0%} of the growth came over the web",
        "contradicted if a generous bound on web sales is less than half of the growth",
        bound,
    )


def adopters():
    """Return whether a comparison of adopters with others could show that CRM works (F08), on SIMULATED firms.

    Returns
    -------
    Finding
        With the estimated `difference` and its interval where the truth is 0.

    Examples
    --------
    >>> adopters().verdict
    'uncheckable'
    """
    found = adopters_against_others().loc["adopters less others"]
    times = found["growth_adopters"] / found["growth_others"]
    return Finding(
        "uncheckable" if found["low"] > 0 else "depends",
        f"SIMULATED firms on which CRM does nothing: adopters grow {times:.1f} times as fast, {found['estimate']:+.1f} "
        f"points ({found['low']:.1f} to {found['high']:.1f})",
        "uncheckable if adopters differ from others although the simulated effect is 0",
        {"difference": found["estimate"], "low": found["low"], "high": found["high"], "times": times},
    )


FIRST_HALF = {"shoppers": 2014, "sales": 2018}
"""Last year that the curves of growth see when they are scored on later ones: about half of each series."""


def exponential_growth():
    """Return whether online retail in China went on growing exponentially (F12).

    Returns
    -------
    Finding
        With the exponential's AICc behind the best curve and its error in the last known year, for each series.

    Examples
    --------
    >>> exponential_growth().verdict
    'contradicted'
    """
    table = hand_entered("online_retail_china")
    numbers, best = {}, []
    for name, until in FIRST_HALF.items():
        series = table[table["series"] == name]
        curves = growth_curves(series["year"], series["value"])
        ahead = growth_forecast(series["year"], series["value"], until, series["year"].max(), draws=20)
        scores = growth_scores(ahead)
        best += [curves["behind"]["exponential"] == 0, scores["mape"].idxmin() == "exponential"]
        numbers[f"{name}_behind"] = curves.loc["exponential", "behind"]
        numbers[f"{name}_last_error"] = scores.loc["exponential", "last_error"]
    return Finding(
        "holds" if all(best) else "depends" if any(best) else "contradicted",
        f"an exponential that saw the first half is {numbers['shoppers_last_error']:+.0%} off for the shoppers and "
        f"{numbers['sales_last_error']:+.0%} for the sales of 2023; straight line and logistic fit better",
        "holds if the exponential has the least AICc and the least error in later years for both series, contradicted "
        "if for none",
        numbers,
    )


def failure_rates_agree():
    """Return whether the published failure rates of CRM projects agree with each other (F13).

    Returns
    -------
    Finding
        With the `lowest`, `highest` and `median` rate.

    Examples
    --------
    >>> failure_rates_agree().verdict
    'depends'
    """
    rates = hand_entered("crm_failure_rates")["failed"]
    low, high, middle = rates.min(), rates.max(), rates.median()
    return Finding(
        "depends" if low < 0.5 < high else "holds" if low >= 0.5 else "contradicted",
        f"{len(rates)} published rates from {low:.0%} to {high:.0%} (median {middle:.0%}), by what counts as failure",
        "“high” holds if all published rates are a half or more, is contradicted if all are less, depends otherwise",
        {"lowest": low, "highest": high, "median": middle},
    )
