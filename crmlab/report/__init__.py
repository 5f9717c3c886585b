"""The report room: notebooks into reports.

Inside a notebook, `record` and `record_table` name the numbers and tables a report keeps. Outside, `build` turns a
manifest into a site of pages. Everything heavy loads on first use.
"""

import importlib

# Imported at once, because a function that has its module's name cannot be loaded lazily; the module is light.
from crmlab.report.record import provenance, record, record_table, say

_HOME = {
    "ManifestError": "manifest",
    "ParameterError": "parameters",
    "build": "site",
    "check_parameters": "parameters",
    "read_manifest": "manifest",
    "read_parameters": "parameters",
}
__all__ = ["provenance", "record", "record_table", "say", *sorted(_HOME)]


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
