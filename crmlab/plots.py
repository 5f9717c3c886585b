"""One look for all figures: theme, fonts for Chinese text, and figures that carry a description."""

import dataclasses
import warnings
from pathlib import Path

INK, ACCENT, SECOND, THIRD, MUTED = "#22313f", "#1f6f8b", "#d1782c", "#6b8e23", "#8a97a3"
"""Colours that stay apart in print and for colour-blind readers."""

CJK = ("NotoSansCJK", "NotoSansSC", "SourceHanSans", "wqy-microhei", "wqy-zenhei", "msyh", "PingFang", "Hiragino")
"""Beginnings of the names of font files with Chinese characters, the finest first."""


def use_theme():
    """Set the look of all figures of a notebook: call it once, after the imports.

    Fonts with Chinese characters are found on the machine and used for the characters that the first font lacks;
    a `UserWarning` says so when there is none.

    Examples
    --------
    >>> use_theme()
    """
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib import font_manager

    family = ["DejaVu Sans"]
    if font := _cjk_font(font_manager.findSystemFonts()):
        # Registered by hand: matplotlib's list of fonts may be older than the font.
        font_manager.fontManager.addfont(font)
        family.append(font_manager.FontProperties(fname=font).get_name())
        # Bold titles take the one weight of such a font; matplotlib would say so beside every figure.
        weights = [entry for entry in font_manager.fontManager.ttflist if entry.name == family[-1]]
        if all(entry.weight in (400, "normal", "regular") for entry in weights):
            font_manager.fontManager.ttflist.append(dataclasses.replace(weights[-1], weight=700))
    else:
        warnings.warn(
            "No font with Chinese characters was found: they will show as boxes. On Debian or Ubuntu "
            "`apt-get install fonts-noto-cjk` (or fonts-wqy-microhei, small) helps.",
            UserWarning,
            stacklevel=2,
        )
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=[ACCENT, SECOND, THIRD, MUTED, INK],
        rc={
            "font.family": family,
            "figure.figsize": (7.2, 4.0),
            "figure.constrained_layout.use": True,
            "savefig.dpi": 144,
            "figure.dpi": 144,
            "font.size": 10,
            "axes.titlesize": 11.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": MUTED,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": "#e6eaee",
            "text.color": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        },
    )
    mpl.rcParams["axes.axisbelow"] = True


def _cjk_font(files):
    for name in CJK:
        found = sorted(f for f in files if Path(f).name.lower().startswith(name.lower()))
        if found:
            return next((f for f in found if "regular" in f.lower()), found[0])
    return None


def show(figure, alt):
    """Display a figure with a description for readers who cannot see it, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    alt : str
        One or two sentences: what is drawn and what it shows.

    Raises
    ------
    ValueError
        An empty description.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> show(plt.figure(figsize=(1, 1)), "An empty figure.")
    Figure(...)
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    if not alt.strip():
        raise ValueError("Say in a sentence what the figure shows: readers who cannot see it depend on it.")
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)
