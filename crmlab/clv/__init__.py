"""Customer lifetime value: summaries of a purchase log, models of buying and spending, predictions with intervals."""

from crmlab._lazy import attach

_HOMES = {
    "BDW": "contract",
    "BGBB": "discrete",
    "BGCNBD": "bg",
    "BGNBD": "bg",
    "GammaGamma": "spend",
    "MBGCNBD": "bg",
    "MBGNBD": "bg",
    "NBD": "bg",
    "ParetoNBD": "pareto",
    "Result": "fit",
    "SBG": "contract",
    "UNITS": "summary",
    "by_frequency": "evaluate",
    "cohort": "contract",
    "compare": "evaluate",
    "coverage": "evaluate",
    "customer_equity": "predict",
    "interval": "predict",
    "lr_test": "fit",
    "middle": "summary",
    "month_calendar": "summary",
    "newcomer": "predict",
    "opportunities": "discrete",
    "reproduce": "literature",
    "rolling": "evaluate",
    "states": "summary",
    "summarize": "summary",
    "survival_interval": "contract",
    "tracking": "evaluate",
}
__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
