"""Customer lifetime value: summaries of a purchase log, models of buying and spending, predictions with intervals."""

import importlib

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
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return sorted(__all__)
