"""Customer lifetime value: summaries of a purchase log, models of buying and spending, predictions with intervals."""

from crmlab._lazy import attach

_HOMES = {
    "BGNBD": "bg",
    "GammaGamma": "spend",
    "MBGNBD": "bg",
    "Result": "fit",
    "UNITS": "summary",
    "by_frequency": "evaluate",
    "compare": "evaluate",
    "interval": "predict",
    "middle": "summary",
    "states": "summary",
    "summarize": "summary",
}
__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
