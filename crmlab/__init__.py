"""Customer relationship management, studied with real data.

Rooms: `crmlab.data` (logs, catalogue, audit), `crmlab.lifecycle` (activity, cohorts, churn, segments), `crmlab.loyalty`
(surveys, satisfaction and loyalty), `crmlab.clv` (customer lifetime value), `crmlab.market` (cross-selling, timing,
campaigns), `crmlab.cases` (the book company, the claims ledger), `crmlab.report` (notebooks into reports),
`crmlab.plots` (theme and shared figures). Names load on first use, so `import crmlab` costs next to nothing.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["cases", "clv", "data", "lifecycle", "loyalty", "market", "plots", "report"]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]
