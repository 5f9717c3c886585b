"""Data: the catalogue of named sets, reading logs, auditing them, published numbers."""

from crmlab._lazy import attach

_HOMES = {
    "DataError": "errors",
    "audit": "auditing",
    "catalogue": "sets",
    "check": "auditing",
    "compare_published": "targets",
    "connect": "engine",
    "consolidate": "merging",
    "contact_status": "reach",
    "cube": "aggregates",
    "customer_file": "merging",
    "data_folder": "sets",
    "fetch": "sets",
    "load": "read",
    "match_quality": "identity",
    "merge": "merging",
    "names": "sets",
    "open_dataset": "sets",
    "present": "sets",
    "propose_duplicates": "identity",
    "propose_likely_duplicates": "linking",
    "pseudonymize": "pseudonyms",
    "published": "targets",
    "rollup_check": "aggregates",
    "simulate": "simulator",
    "simulate_log": "simulator",
    "survivorship_bias": "reach",
    "undo": "merging",
    "wilson": "intervals",
}
__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
