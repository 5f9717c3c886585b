"""The look that all figures share."""

import logging

import matplotlib.pyplot as plt
import pytest
from matplotlib import font_manager

from crmlab import plots


def test_a_bold_chinese_title_is_drawn_without_a_message(caplog, tmp_path):
    if not plots._cjk_font(font_manager.findSystemFonts()):
        pytest.skip("no font with Chinese characters on this machine")
    plots.use_theme()
    plots.use_theme()
    figure, axes = plt.subplots()
    axes.set(title="龙之脊: 新疆", xlabel="学校 (%)")
    with caplog.at_level(logging.WARNING):
        figure.savefig(tmp_path / "title.png")
    plt.close(figure)
    assert caplog.messages == []


def test_a_figure_without_a_description_is_refused():
    with pytest.raises(ValueError, match="readers who cannot see it"):
        plots.show(plt.figure(), " ")
    plt.close("all")
