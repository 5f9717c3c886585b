"""The promises of `crmlab.report.index` and `history`: what needs attention first, how figures went, one table."""

import json
import re
from io import StringIO

import pandas as pd
import pytest
from click.testing import CliRunner

from crmlab.cli import cli
from crmlab.report import results
from crmlab.report.history import changes, earlier, report, sparkline
from crmlab.report.index import history_pages, index_page
from crmlab.report.manifest import Run
from tests.stored import FACTS


def figure(value, **more):
    text = {"label": "Value", "unit": "$", "text": f"{value} $", "interval": None, "interval_text": None}
    return text | {"value": value} | more


def put(folder, started, figures=None, **facts):
    """Write what a report's folder has for other programs."""
    folder.mkdir(parents=True)
    run = FACTS | {"warnings": [], "parameters": {}, "started": started, "slug": "x"} | facts
    (folder / "run.json").write_text(json.dumps(run))
    if figures is not None:
        (folder / "results.json").write_text(json.dumps({"figures": figures, "tables": {}}))
        (folder / "index.html").write_text("")


def runs(*names, **parameters):
    return [Run(name, f"What of {name}?", f"{name}.ipynb", parameters) for name in names]


@pytest.fixture
def site(tmp_path):
    """A site with a report in each state, and two earlier reports of one of them."""
    out = tmp_path / "site"
    put(out / "good", "2026-11-21T14:03:00+00:00", {"value": figure(38.7, interval=[36, 41], interval_text="36 to 41")})
    put(out / "old", "2026-11-20T14:03:00+00:00", {"value": figure(7), "name": figure("<b>Ann</b>", unit="")})
    put(out / "broken", "2026-11-19T14:03:00+00:00", {"value": figure(1)})
    failure = {"kind": "notebook", "message": "<b>boom</b> in cell 3", "details": ""}
    put(out / ".failed" / "broken", "2026-11-21T15:00:00+00:00", status="failed", error=failure)
    put(out / ".failed" / "never", "2026-11-21T15:00:00+00:00", status="failed", error=failure)
    for stamp, value in [("20261107T140300Z", 36.2), ("20261114T140300Z", 37.5)]:
        started = f"2026-11-{stamp[6:8]}T14:03:00+00:00"
        put(out / ".history" / "good" / stamp, started, {"value": figure(value)}, parameters={"horizon": 26})
    # What a killed build may leave is no report.
    (out / ".history" / "good" / "20261101T000000Z").mkdir()
    return out


def test_what_needs_attention_comes_first(site):
    text = index_page(runs("good", "new", "old", "broken", "never"), site, {"old": "data orders.csv changed"})
    titles = re.findall(r"What of (\w+)\?", text)
    assert titles == ["never", "broken", "old", "new", "good"]
    assert re.findall('<span class="state">(.*?)</span>', text) == ["failed", "stale", "stale", "not built", "good"]
    assert "5 reports" in text
    assert "1 failed" in text
    assert "2 stale" in text
    assert "data orders.csv changed" in text
    assert "&lt;b&gt;boom&lt;/b&gt; in cell 3" in text
    assert "<b>" not in text


def test_a_broken_build_leaves_the_last_good_report_marked_stale(site):
    text = index_page(runs("broken"), site)
    assert '<article class="stale">' in text
    assert '<a href="broken/index.html">' in text
    assert "A newer run failed, 21 November 2026, 15:00 UTC: &lt;b&gt;boom" in text


def test_parameters_and_the_day_of_the_data_are_shown_without_secrets(site):
    text = index_page(runs("good", segment="online", db="postgres://ann:s3cret@h/d"), site)
    assert "segment <strong>online</strong>" in text
    assert "data as of 30 June 1998" in text
    assert "s3cret" not in text


def test_the_course_of_a_figure_is_drawn_and_told(site):
    text = index_page(runs("good"), site)
    (line,) = re.findall("<svg.*?</svg>", text)
    told = "Value – 7 November 2026: 36.2 $; 14 November 2026: 37.5 $; 21 November 2026: 38.7 $"
    assert f"<title>{told}</title>" in line
    places = [tuple(map(float, place.split(","))) for place in re.search('points="(.*?)"', line)[1].split()]
    assert [x for x, _y in places] == [2, 50, 98]
    # Upwards is down in a picture's numbers.
    assert places[0][1] > places[1][1] > places[2][1]


@pytest.mark.parametrize("values", [[], [1], ["a", "b"], [None, 2], [True, False], [float("nan"), 1]])
def test_what_has_no_course_has_no_line(values):
    assert sparkline("x", [("2026-11-21", value, str(value)) for value in values]) == ""


@pytest.mark.parametrize("values", [[5, 5, 5], [1e308, -1e308], [0, 1e-300], [10**400 // 10**380, 2]])
def test_every_course_stays_in_its_box(values):
    line = sparkline("<x>", [("2026-11-21", value, "<y>") for value in values])
    assert "<x>" not in line
    assert all(0 <= float(y) <= 24 for y in re.findall(r",([\d.-]+)", re.search('points="(.*?)"', line)[1]))


def test_earlier_reports_are_listed_on_a_page_of_their_own(site):
    assert '<a href=".history/good/index.html">2 earlier</a>' in index_page(runs("good", "old"), site)
    pages = history_pages(runs("good", "old"), site)
    assert list(pages) == [".history/good/index.html"]
    page = pages[".history/good/index.html"]
    links = re.findall('<a href="(.*?)"', page)
    assert links == [
        "../../index.html",
        "../../good/index.html",
        "20261114T140300Z/index.html",
        "20261107T140300Z/index.html",
    ]
    (site / "index.html").write_text("")
    for link in links:
        assert (site / ".history" / "good" / link).resolve().is_file(), link
    assert page.index("38.7 $") < page.index("37.5 $") < page.index("36.2 $")


def test_what_is_no_whole_report_does_not_count(site):
    (site / "old" / "results.json").write_text("{half")
    assert report(site / "old") is None
    assert "not built" in index_page(runs("old"), site)
    assert [one["results"]["figures"]["value"]["value"] for one in earlier(site, "good")] == [36.2, 37.5]


def test_what_only_the_order_of_computing_changed_is_no_change():
    before = {"run": {"started": "2026-11-14T09:00:00+00:00"}, "results": {"figures": {"value": figure(8.645)}}}
    assert changes({"value": figure(8.645 + 1e-14)}, {}, before)["value"] == "unchanged since 14 November 2026"
    assert changes({"value": figure(8.645001)}, {}, before)["value"].startswith("+1")
    line = sparkline("x", [("2026-11-14", 8.645, "8.6"), ("2026-11-21", 8.645 + 1e-14, "8.6")])
    assert 'points="2.0,12.0 98.0,12.0"' in line


def test_changes_are_against_the_report_that_is_replaced(site):
    previous = earlier(site, "good")[-1]
    now = {"value": figure(38.7, interval=[36, 41])}
    assert changes(now, {"parameters": {"horizon": 26}}, previous) == {
        "value": "+1.2 $ since 14 November 2026 (was 37.5 $), within the interval"
    }
    assert changes(now, {"parameters": {"horizon": 52}}, previous)[""].endswith("had other parameters.")
    assert changes(now, {}, None) == {}


def test_all_results_are_one_table(site):
    table = results(site)
    assert list(table.columns) == ["report", "parameters", "figure", "value", "low", "high", "unit", "started"]
    assert table[["report", "figure", "value"]].values.tolist() == [
        ["broken", "value", 1],
        ["good", "value", 38.7],
        ["old", "value", 7],
        ["old", "name", "<b>Ann</b>"],
    ]
    good = table.set_index("report").loc["good"]
    assert (good["low"], good["high"], good["unit"]) == (36, 41, "$")
    assert good["started"] == pd.Timestamp("2026-11-21T14:03Z")


def test_with_history_each_report_is_there_as_often_as_it_was_built(site):
    table = results(site, history=True).query("report == 'good'")
    assert table["value"].tolist() == [36.2, 37.5, 38.7]
    assert table["started"].is_monotonic_increasing
    assert json.loads(table["parameters"].iloc[0]) == {"horizon": 26}


@pytest.fixture
def crmlab():
    return lambda *arguments: CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)


def test_the_command_prints_the_table_csv_and_json(site, crmlab):
    lines = crmlab("results", site).stdout.splitlines()
    assert lines[0].split() == ["report", "figure", "value", "low", "high", "unit", "started"]
    assert lines[2].split() == ["good", "value", "38.7", "36.0", "41.0", "$", "2026-11-21", "14:03"]
    assert lines[1].split() == ["broken", "value", "1", "$", "2026-11-19", "14:03"]
    back = pd.read_csv(StringIO(crmlab("results", site, "--csv", "--history").stdout))
    assert len(back) == 6
    assert back.loc[back["report"] == "good", "low"].tolist()[-1] == 36
    rows = json.loads(crmlab("results", site, "--json").stdout)
    assert rows[1]["value"] == 38.7
    assert rows[1]["started"] == "2026-11-21T14:03:00Z"
    assert rows[3]["value"] == "<b>Ann</b>"


def test_the_command_takes_a_manifest_whose_site_lies_beside_it(site, crmlab, tmp_path):
    (tmp_path / "m.toml").write_text("")
    assert crmlab("results", tmp_path / "m.toml").stdout == crmlab("results", site).stdout


def test_an_empty_or_missing_site_is_told(crmlab, tmp_path):
    assert crmlab("results", tmp_path).stdout.splitlines() == ["report  figure  value  low  high  unit  started"]
    done = crmlab("results", tmp_path / "gone")
    assert done.exit_code == 2
    assert "there is no built site" in done.stderr


def test_names_from_the_data_neither_compute_in_a_spreadsheet_nor_steer_a_terminal(site, crmlab):
    put(site / "x", "2026-11-21T14:03:00+00:00", {"a": figure("=1+1", unit="@u"), "b": figure("\x1b[2Jgone\u202e")})
    assert "'=1+1" in crmlab("results", site, "--csv").stdout
    assert "'@u" in crmlab("results", site, "--csv").stdout
    shown = crmlab("results", site).stdout
    assert "\x1b" not in shown
    assert "[U+001B][2Jgone[U+202E]" in shown
