"""Sliders where somebody can move them, and the figure that says the same everywhere else."""

import importlib.util
import re

import pytest

from crmlab import clv
from crmlab.clv import sliders
from crmlab.data import DataError

needs_widgets = pytest.mark.skipif(
    importlib.util.find_spec("ipywidgets") is None, reason="the extra `lab` (ipywidgets) is not installed"
)
DEFAULTS = {name: facts[0] for name, facts in sliders.SETTINGS.items()}


@pytest.fixture
def shown(monkeypatch):
    """What `display` is given."""
    found = []
    monkeypatch.setattr("IPython.display.display", lambda thing, **_: found.append(thing))
    return found


def kinds(shown):
    return [type(thing).__name__ for thing in shown]


def test_without_asking_there_is_a_figure_and_no_word_of_sliders(shown, capsys):
    clv.what_if(retention=0.9)
    assert kinds(shown) == ["Figure"]
    assert capsys.readouterr().out == ""
    assert len(shown[0].axes) == 4


@needs_widgets
def test_with_a_reader_there_are_sliders(shown, monkeypatch):
    monkeypatch.setattr(sliders, "_somebody_there", lambda: True)
    clv.what_if(interactive=True, retention=0.9, growth=0.02)
    assert kinds(shown) == ["VBox"]
    values = {slider.description: slider.value for slider in shown[0].children[0].children}
    assert values["retention a year"] == 0.9
    assert values["growth of the margin a year"] == 0.02


@needs_widgets
def test_without_a_reader_the_figure_and_the_reason(shown, capsys):
    clv.what_if(interactive=True)
    assert kinds(shown) == ["Figure"]
    assert "nobody can move them where this notebook runs" in capsys.readouterr().out


def test_without_ipywidgets_the_figure_and_the_reason(shown, capsys, monkeypatch):
    monkeypatch.setattr(sliders, "_somebody_there", lambda: True)
    monkeypatch.setattr(sliders.importlib.util, "find_spec", lambda name: None)
    clv.what_if(interactive=True)
    assert kinds(shown) == ["Figure"]
    assert "ipywidgets is not installed (pip install ipywidgets)" in capsys.readouterr().out


@needs_widgets
def test_a_moved_slider_changes_numbers_and_figure():
    box = sliders.panel(DEFAULTS)
    controls = {slider.description: slider for slider in box.children[0].children}
    before = box.children[1].value
    assert "5 points more: +20%" in before
    controls["retention a year"].value = 0.9
    after = box.children[1].value
    assert "5 points more: +33%" in after
    picture = re.compile(r'src="data:image/png;base64,([^"]+)"')
    assert picture.search(before).group(1) != picture.search(after).group(1)
    assert re.search(r'<img alt="[^"]{40,}"', after), "the figure is described for those who cannot see it"


@needs_widgets
def test_what_cannot_be_is_said_in_words_and_does_not_break_the_sliders():
    box = sliders.panel(DEFAULTS | {"growth": 0.05})
    controls = {slider.description: slider for slider in box.children[0].children}
    controls["discount a year"].value = 0.0
    controls["retention a year"].value = 0.97
    assert "The value is infinite" in box.children[1].value
    controls["discount a year"].value = 0.1
    assert "A customer is worth" in box.children[1].value


@needs_widgets
def test_every_end_of_every_slider_can_be_reached():
    for name, (_, low, high, *_rest) in sliders.SETTINGS.items():
        for value in (low, high):
            assert "<p>" in sliders.panel(DEFAULTS | {name: value}).children[1].value


def test_points_beyond_all_customers_are_called_undefined():
    assert "5 points more: undefined" in sliders.sentence(DEFAULTS | {"retention": 0.97})


def test_unknown_settings_and_impossible_values_are_refused():
    with pytest.raises(DataError, match="Unknown settings: churn; there are retention, change"):
        clv.what_if(churn=0.2)
    with pytest.raises(DataError, match="retention must be a share"):
        clv.what_if(retention=80)


@needs_widgets
def test_in_a_kernel_the_front_end_decides():
    """JupyterLab says that its reader can be asked for input; papermill, nbclient and nbval say the opposite."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        found = {}
        for asked in (True, False):
            found[asked] = set()
            client.execute_interactive(
                "from crmlab import clv; clv.what_if(interactive=True)",
                allow_stdin=asked,
                timeout=120,
                output_hook=lambda message, kinds=found[asked]: kinds.update(message["content"].get("data", {})),
            )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    widget = "application/vnd.jupyter.widget-view+json"
    assert widget in found[True]
    assert "image/png" not in found[True]
    assert widget not in found[False]
    assert "image/png" in found[False]
