"""Names of a package that load on first use, so that importing it costs next to nothing."""

import importlib


def attach(package, homes):
    """Return what a package needs to load its public names lazily.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    homes : dict
        Public name to the submodule that defines it; a submodule must not share its name with a public name.

    Returns
    -------
    tuple
        ``__getattr__``, ``__dir__`` and ``__all__`` of the package.

    Examples
    --------
    >>> getattr_, _, names = attach("crmlab.data", {"connect": "engine"})
    >>> names, getattr_("connect").__name__
    (['connect'], 'connect')
    """

    def __getattr__(name):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return __getattr__, lambda: sorted(homes), list(homes)
