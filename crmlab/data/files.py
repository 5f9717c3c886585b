"""Where the package's own small data files lie: in the work tree under data, in a wheel beside this module."""

from pathlib import Path

from crmlab.data.errors import DataError


def own_file(name):
    """Return the path of one of the package's own data files.

    Parameters
    ----------
    name : str
        Name in the folder `data` of the work tree, such as ``"claims.toml"`` or ``"statistics/dell.csv"``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    DataError
        When there is no such file.

    Examples
    --------
    >>> own_file("published/clv.toml").name
    'clv.toml'
    """
    package = Path(__file__).parent
    for folder in (package, package.parents[1] / "data"):
        if (file := folder / name).is_file():
            return file
    raise DataError(f"data/{name} does not exist: crmlab carries no such file. Reinstall it if it should.")
