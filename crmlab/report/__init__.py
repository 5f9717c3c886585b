"""The report room: notebooks into reports.

Inside a notebook, `record` and `record_table` name the numbers and tables a report keeps. Outside, `build` turns a
manifest into a site of pages. Everything heavy loads on first use.
"""

from crmlab._lazy import attach

# Imported at once, because a function that has its module's name cannot be loaded lazily; the module is light.
from crmlab.report.record import provenance, record, record_table, say

_HOMES = {
    "ManifestError": "manifest",
    "ParameterError": "parameters",
    "build": "site",
    "check_parameters": "parameters",
    "read_manifest": "manifest",
    "read_parameters": "parameters",
    "results": "history",
}
__getattr__, __dir__, _lazy = attach(__name__, _HOMES)
__all__ = ["provenance", "record", "record_table", "say", *_lazy]
