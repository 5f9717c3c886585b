"""Playing with the assumptions: sliders where somebody can move them, and otherwise the figure that they would make."""

import base64
import html
import importlib.util
import io

import numpy as np

from crmlab import plots
from crmlab.clv.economics import READINGS, changed_retention, customer_value, value_lift
from crmlab.data.errors import DataError

SETTINGS = {
    "retention": (0.80, 0.30, 0.99, 0.01, "retention a year"),
    "change": (0.05, 0.01, 0.10, 0.005, "change"),
    "discount": (0.10, 0.00, 0.25, 0.01, "discount a year"),
    "growth": (0.00, -0.05, 0.08, 0.01, "growth of the margin a year"),
    "acquisition": (0.0, 0.0, 3.0, 0.1, "acquisition, annual margins"),
    "fixed_share": (0.0, 0.0, 0.6, 0.05, "share of fixed costs"),
}
"""Setting to its default, lowest and highest value, step, and words."""

PANELS = {
    "discount": (0.0, 0.05, 0.10, 0.15),
    "growth": (0.0, 0.02, 0.04),
    "acquisition": (0.0, 1.0, 2.0),
    "fixed_share": (0.0, 0.25, 0.5),
}
"""What the static figure varies, one assumption a panel."""

CLAIMED = (0.25, 0.85)
"""The band of the claim that the figures show: 25 to 85 % more profit."""


def what_if(interactive=False, **settings):
    """Show what a change of retention is worth under assumptions that the reader can move.

    Sliders are shown when `interactive` is true, somebody is there to move them (the notebook runs in JupyterLab or
    another front end that can ask for input, not in a report, a test or a batch), and ipywidgets is installed.
    Otherwise the figure has a panel for each assumption with a line for each of several values, which says the same
    without moving; if sliders had been asked for, a sentence says why there are none.

    Parameters
    ----------
    interactive : bool
        Whether sliders are wanted.
    **settings : float
        Where to begin: retention, change, discount, growth, acquisition (in annual margins) and fixed_share, as in
        `value_lift`.

    Raises
    ------
    DataError
        Unknown settings, or values that cannot be.

    Examples
    --------
    >>> what_if(retention=0.9)
    Figure(...)
    """
    from IPython.display import display

    if unknown := set(settings) - set(SETTINGS):
        raise DataError(f"Unknown settings: {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}.")
    chosen = {name: facts[0] for name, facts in SETTINGS.items()} | {k: float(v) for k, v in settings.items()}
    changed_retention(chosen["retention"], chosen["change"])
    customer_value(chosen["retention"], chosen["discount"], growth=chosen["growth"])
    missing = "" if not interactive else _why_not()
    if interactive and not missing:
        display(panel(chosen))
        return
    if missing:
        print(f"No sliders: {missing} The figure below shows the same for several values of each assumption.")  # noqa: T201
    plots.show(
        _grid(chosen),
        f"Four panels of the lift in profit by {chosen['change']:.3g} more retention against retention, one line for "
        "each of several values of discount, growth, acquisition cost and fixed costs; the claimed band is shaded.",
    )


def panel(settings):
    """Return the sliders with the figure and the sentence that follow them.

    Parameters
    ----------
    settings : dict
        Setting to the value to begin with.

    Returns
    -------
    ipywidgets.VBox
        The sliders, and below them an `ipywidgets.HTML` with sentence and figure.
    """
    import ipywidgets as widgets

    sliders = {
        name: widgets.FloatSlider(
            value=settings[name], min=min(low, settings[name]), max=max(high, settings[name]), step=step,
            description=words, continuous_update=False, readout_format=".3f",
            style={"description_width": "17em"}, layout=widgets.Layout(width="38em"),
        )
        for name, (_, low, high, step, words) in SETTINGS.items()
    }  # fmt: skip
    shown = widgets.HTML()

    def redraw(_=None):
        now = {name: slider.value for name, slider in sliders.items()}
        try:
            words = sentence(now)
            shown.value = f"<p>{html.escape(words)}</p>{_image(_curve(now), words)}"
        except DataError as error:
            shown.value = f"<p>{html.escape(str(error))}</p>"

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    redraw()
    return widgets.VBox([widgets.VBox(list(sliders.values())), shown])


def sentence(settings):
    """Return in words what the settings come to.

    Parameters
    ----------
    settings : dict
        Retention, change, discount, growth, acquisition and fixed_share.

    Returns
    -------
    str
        One sentence for each reading of the change.

    Examples
    --------
    >>> sentence({name: facts[0] for name, facts in SETTINGS.items()})[:64]
    'A customer is worth 3.67 annual margins before acquisition. Rete'
    """
    lifts = {reading: _lift(settings, settings["retention"], reading) for reading in READINGS}
    k, r = settings["change"], settings["retention"]
    names = {
        "points": f"{100 * k:.3g} points more",
        "fewer defections": f"{100 * k:.3g}% fewer defections",
        "more retention": f"{100 * k:.3g}% more retention",
    }
    said = [f"{names[reading]}: {'undefined' if np.isnan(v) else f'{v:+.0%}'}" for reading, v in lifts.items()]
    worth = customer_value(r, settings["discount"], growth=settings["growth"])
    return f"A customer is worth {worth:.2f} annual margins before acquisition. Retention {r:.3g}, profit: " + (
        "; ".join(said) + "."
    )


def _why_not():
    """Why there can be no sliders here, or nothing."""
    if importlib.util.find_spec("ipywidgets") is None:
        return "ipywidgets is not installed (pip install ipywidgets)."
    return "" if _somebody_there() else "nobody can move them where this notebook runs."


def _somebody_there():
    """Whether the cell came from a front end that can ask its reader for input; papermill and nbval cannot."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent().get("content", {}).get("allow_stdin"))


def _lift(settings, retention, reading="points", **other):
    terms = {name: settings[name] for name in ("change", "discount", "growth", "acquisition", "fixed_share")} | other
    return value_lift(retention, reading=reading, **terms)


def _range(settings):
    """Retention from .30 up to where the change still fits and the value is finite."""
    ceiling = min(1.0, (1 + settings["discount"]) / (1 + settings["growth"]) - 0.01)
    return np.linspace(0.30, max(0.31, min(0.99, ceiling) - settings["change"]), 120)


def _band(axes):
    axes.axhspan(*(100 * edge for edge in CLAIMED), color=plots.MUTED, alpha=0.18, linewidth=0)
    axes.set_ylim(0, 120)


def _curve(settings):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.8))
    axes = figure.subplots()
    r = _range(settings)
    _band(axes)
    for reading, colour in zip(READINGS, (plots.ACCENT, plots.SECOND, plots.THIRD), strict=True):
        axes.plot(100 * r, 100 * _lift(settings, r, reading), color=colour, label=reading)
        axes.plot(100 * settings["retention"], 100 * _lift(settings, settings["retention"], reading), "o", color=colour)
    axes.legend(loc="upper left")
    axes.set(title="Shaded: the 25 to 85% of the claim", xlabel="retention, % a year", ylabel="lift in profit, %")
    return figure


def _grid(settings):
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(7.8, 6.0), sharex=True, sharey=True)
    colours = (plots.ACCENT, plots.SECOND, plots.THIRD, plots.INK)
    for axes, (name, values) in zip(panels.flat, PANELS.items(), strict=True):
        _band(axes)
        for value, colour in zip(values, colours, strict=False):
            now = settings | {name: value}
            r = _range(now)
            axes.plot(100 * r, 100 * _lift(now, r), color=colour, label=f"{value:.3g}")
        axes.axvline(100 * settings["retention"], color=plots.MUTED, linewidth=0.8)
        look = {"frameon": True, "facecolor": "white", "edgecolor": "none", "framealpha": 1, "borderpad": 0.1}
        axes.legend(title=SETTINGS[name][-1], loc="upper left", alignment="left", title_fontsize=9, **look)
    for axes in panels[:, 0]:
        axes.set_ylabel("lift in profit, %")
    for axes in panels[1]:
        axes.set_xlabel("retention, % a year")
    title = f"{100 * settings['change']:.3g} points more retention; shaded: the 25 to 85% of the claim"
    figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=11.5)
    return figure


def _image(figure, alt):
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    data = base64.b64encode(png.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">'
