"""Data: the catalogue of named sets, reading logs, auditing them, published numbers."""

from crmlab._lazy import attach

_HOMES = {
    "DataError": "errors",
    "audit": "auditing",
    "catalogue": "sets",
    "check": "auditing",
    "compare_published": "targets",
    "connect": "engine",
    "cube": "aggregates",
    "data_folder": "sets",
    "fetch": "sets",
    "load": "read",
    "names": "sets",
    "open_dataset": "sets",
    "present": "sets",
    "published": "targets",
    "simulate": "simulator",
    "simulate_log": "simulator",
    "rollup_check": "aggregates",
    "wilson": "intervals",
}
__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
