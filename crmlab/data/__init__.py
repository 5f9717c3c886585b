"""Data: the catalogue of named sets, reading logs, auditing them, published numbers."""

import importlib

_HOMES = {
    "DataError": "errors",
    "audit": "auditing",
    "catalogue": "sets",
    "check": "auditing",
    "compare_published": "targets",
    "connect": "engine",
    "data_folder": "sets",
    "fetch": "sets",
    "load": "read",
    "names": "sets",
    "open_dataset": "sets",
    "published": "targets",
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return sorted(__all__)
