"""The promises of `crmlab.report.parameters`."""

import ast
import datetime
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from crmlab.report.parameters import (
    Parameter,
    ParameterError,
    as_json,
    check_parameters,
    in_words,
    locate_dataset,
    mask,
    parameters_of,
    parse_settings,
    read_notebook,
    read_parameters,
)

CELL = '''from typing import Literal
"""A text between."""
dataset: str = "cdnow"  # catalogue name, file or database address
horizon: int = 26  # weeks, how far to look ahead
rate: float = 1  # a year
fast: bool = False
start: date = "1997-01-01"  # first day
model: Literal["BG", "Pareto"] = "BG"
segments: list[str] = [
    "all",
    "online",  # inside
]  # which to compare
top: int | None = None  # customers; all when none
limit: "float | None" = None
plain = 0.5  # a share
names = ["a"]
'''


def write(path, *cells):
    """Write a notebook of code cells; a pair is a source and its tags."""
    code = [(cell, []) if isinstance(cell, str) else cell for cell in cells]
    content = {
        "cells": [
            {"cell_type": "code", "source": source.splitlines(True), "metadata": {"tags": tags}, "outputs": []}
            for source, tags in code
        ],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def parameters(tmp_path):
    return read_parameters(write(tmp_path / "n.ipynb", "1 + 1", (CELL, ["parameters"])))


def test_a_parameters_cell_is_read_with_types_defaults_and_meanings(parameters):
    assert [(p.name, p.annotation, p.default, p.description) for p in parameters] == [
        ("dataset", "str", "cdnow", "catalogue name, file or database address"),
        ("horizon", "int", 26, "weeks, how far to look ahead"),
        ("rate", "float", 1, "a year"),
        ("fast", "bool", False, ""),
        ("start", "date", "1997-01-01", "first day"),
        ("model", "Literal['BG', 'Pareto']", "BG", ""),
        ("segments", "list[str]", ["all", "online"], "which to compare"),
        ("top", "int | None", None, "customers; all when none"),
        ("limit", "float | None", None, ""),
        ("plain", "float", 0.5, "a share"),
        ("names", "list[str]", ["a"], ""),
    ]


def test_reading_never_executes(tmp_path):
    trap = f"x: int = __import__('pathlib').Path({str(tmp_path / 'trap')!r}).touch() or 1"
    with pytest.raises(ParameterError, match="plain value"):
        read_parameters(write(tmp_path / "n.ipynb", (trap, ["parameters"])))
    assert not (tmp_path / "trap").exists()


def test_all_faults_of_the_cell_are_named_with_their_lines(tmp_path):
    cell = 'a: complex = 1\nb: int = "x"\nprint(1)\nc = d = 1\ne: int\nf = None\ng: Literal[zzz] = 1\n'
    cell += "a += 1\nh: date = date(2024, 1, 1)\n"
    with pytest.raises(ParameterError) as caught:
        read_parameters(write(tmp_path / "n.ipynb", (cell, ["parameters"])))
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [f"line {i}" for i in range(1, 10)]
    assert "the type complex is not known" in str(caught.value)
    assert "default of b: 'x' is not a whole number" in str(caught.value)
    assert "a date as text" in caught.value.faults[-1]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1"], "has no parameters cell"),
        ([("a = 1", ["parameters"]), ("b = 1", ["parameters"])], "has 2 cells tagged"),
        ([("%matplotlib inline\na = 1", ["parameters"])], "not plain Python"),
        ([("a = '\0'", ["parameters"])], "not plain Python"),
    ],
)
def test_a_notebook_without_a_usable_cell_is_named_in_words(tmp_path, cells, words):
    path = write(tmp_path / "sales.ipynb", *cells)
    with pytest.raises(ParameterError, match=words) as caught:
        read_parameters(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff\xfe\x00", b'{"cells": [1]}', b'{"cells": 3}', b"not json"]
)
def test_what_is_no_notebook_is_named_in_words(tmp_path, content):
    path = tmp_path / "n.ipynb"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match="is not a Jupyter notebook"):
        read_notebook(path)


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"gone\.ipynb cannot be read: No such file"):
        read_notebook(tmp_path / "gone.ipynb")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("horizon", "abc", "'abc' is not a whole number"),
        ("horizon", 1.5, "1.5 is not a whole number"),
        ("horizon", True, "True is not a whole number"),
        ("rate", float("nan"), "nan is not a number"),
        ("rate", "0.1", "'0.1' is not a number"),
        ("fast", 1, "1 is not true or false"),
        ("dataset", 3, "3 is not a text"),
        ("start", "1997-13-01", "'1997-13-01' is not a date such as 2024-01-31"),
        ("model", "pareto", "'pareto' is not one of 'BG', 'Pareto'; did you mean Pareto?"),
        ("segments", "all", "'all' is not a list with each item a text"),
        ("segments", [1], r"\[1\] is not a list with each item a text"),
        ("top", "x", "'x' is not a whole number or nothing"),
        ("horzion", 3, "horzion: no such parameter; did you mean horizon?"),
        ("zzz", 3, "zzz: no such parameter; the notebook has dataset, horizon"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_words(parameters, name, value, words):
    with pytest.raises(ParameterError, match=words):
        check_parameters(parameters, {name: value})


def test_all_faults_are_listed_at_once(parameters):
    with pytest.raises(ParameterError) as caught:
        check_parameters(parameters, {"horizon": "x", "fast": 1, "nope": 1, "rate": 0.2})
    assert len(caught.value.faults) == 3


def test_values_that_fit_come_back_as_json(parameters):
    values = {
        "horizon": 52,
        "rate": 2,
        "start": datetime.date(1998, 1, 2),
        "top": None,
        "segments": ("a",),
        "limit": 1.5,
    }
    checked = check_parameters(parameters, values)
    assert json.loads(json.dumps(checked)) == checked
    assert checked == values | {"start": "1998-01-02", "segments": ["a"]}


def test_texts_are_read_by_the_declared_type(parameters):
    settings = ["horizon=52", "rate=0.2", "fast=yes", "dataset=a=b,c", "start=1998-01-02", "segments=a, b", "top=none"]
    values = parse_settings(parameters, [*settings, 'names=["x,y"]', "model=Pareto", "limit=3"])
    assert check_parameters(parameters, values) == {
        "horizon": 52,
        "rate": 0.2,
        "fast": True,
        "dataset": "a=b,c",
        "start": "1998-01-02",
        "segments": ["a", "b"],
        "top": None,
        "names": ["x,y"],
        "model": "Pareto",
        "limit": 3.0,
    }


@pytest.mark.parametrize(
    "setting", ["horizon=1.5", "horizon=", "fast=maybe", "top=x", "rate=inf", "segments=[1", "start=x"]
)
def test_a_text_that_does_not_fit_is_refused_not_guessed(parameters, setting):
    with pytest.raises(ParameterError, match=setting.partition("=")[0]):
        check_parameters(parameters, parse_settings(parameters, [setting]))


def test_settings_need_an_equals_sign_and_stand_once(parameters):
    with pytest.raises(ParameterError, match="write name=value"):
        parse_settings(parameters, ["horizon"])
    with pytest.raises(ParameterError, match="horizon is set twice"):
        parse_settings(parameters, ["horizon=1", "horizon=2"])


@given(st.text())
def test_any_text_given_for_a_text_is_the_same_text(text):
    parameters = [p for p in _declared() if p.name == "dataset"]
    assert check_parameters(parameters, parse_settings(parameters, [f"dataset={text}"])) == {"dataset": text}


def _declared():
    return [Parameter("dataset", str, "str", "cdnow", "")]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://ann:s3cret@host:5432/sales", "postgres://ann:***@host:5432/sales"),
        ("see 'mysql+x://:p@ss/w@h' now", "see 'mysql+x://:***@h' now"),
        ("duckdb://a.ddb?password=abc&x=1", "duckdb://a.ddb?password=***&x=1"),
        ("https://doi.org/10.1287/x", "https://doi.org/10.1287/x"),
        ("mail a@b.c: fine", "mail a@b.c: fine"),
    ],
)
def test_passwords_of_addresses_are_masked_wherever_they_are(text, masked):
    assert mask(text) == masked
    assert mask({"a": [text, 1, None]}) == {"a": [masked, 1, None]}


def test_a_message_about_an_address_has_no_password(parameters):
    with pytest.raises(ParameterError) as caught:
        check_parameters(parameters, {"horizon": "postgres://ann:s3cret@host/sales"})
    assert "s3cret" not in str(caught.value)


def test_a_dataset_file_is_found_from_the_callers_folder_and_handed_on_from_the_notebooks(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "sales.csv").write_text("x")
    notebook = tmp_path / "notebooks" / "a.ipynb"
    values, files = locate_dataset({"dataset": "sales.csv", "horizon": 5}, tmp_path, notebook)
    assert values == {"dataset": "../sales.csv", "horizon": 5}
    assert files == (tmp_path / "sales.csv",)


@pytest.mark.parametrize("name", ["cdnow", "duckdb://sales.ddb", "postgres://ann@host/shop"])
def test_names_and_addresses_are_no_files(name, tmp_path):
    assert locate_dataset({"dataset": name}, tmp_path, tmp_path / "a.ipynb") == ({"dataset": name}, ())


def test_a_dataset_file_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ParameterError, match=r"there is no file .*gone\.csv"):
        locate_dataset({"dataset": "gone.csv"}, tmp_path, tmp_path / "a.ipynb")


RANGES = """from datetime import date
horizon: "1 <= int <= 30" = 26  # weeks
rate: "0 < float < 1" = 0.1  # a year
top: "int >= 1" = 5
early: "10 > float" = 1
start: "'2020-01-01' <= date" = "2024-01-31"  # first day
bands: list["int >= 0"] = [0, 30]  # days
share: "(0 <= float <= 1) | None" = None
"""


@pytest.fixture
def ranges(tmp_path):
    return read_parameters(write(tmp_path / "n.ipynb", (RANGES, ["parameters"])))


def test_a_range_is_a_quoted_comparison_that_runs_as_it_stands(ranges):
    assert [(p.name, p.annotation) for p in ranges[:4]] == [
        ("horizon", "1 <= int <= 30"),
        ("rate", "0 < float < 1"),
        ("top", "int >= 1"),
        ("early", "10 > float"),
    ]
    subprocess.run([sys.executable, "-W", "error", "-c", RANGES], check=True)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("horizon", 31, "31 is not a whole number, at least 1 and at most 30"),
        ("horizon", 0, "0 is not a whole number, at least 1"),
        ("horizon", 2.5, "2.5 is not a whole number"),
        ("rate", 0, "0 is not a number, above 0 and below 1"),
        ("rate", 1, "1 is not"),
        ("top", -1, "-1 is not a whole number, at least 1"),
        ("early", 10, "10 is not a number, below 10"),
        ("start", "2019-12-31", "'2019-12-31' is not a date such as 2024-01-31, at least 2020-01-01"),
        ("start", "soon", "'soon' is not a date"),
        ("bands", [0, -1], r"\[0, -1\] is not a list with each item a whole number, at least 0"),
        ("share", 1.5, "1.5 is not a number, at least 0 and at most 1 or nothing"),
    ],
)
def test_a_value_out_of_its_range_is_refused_in_words(ranges, name, value, words):
    with pytest.raises(ParameterError, match=words):
        check_parameters(ranges, {name: value})


def test_values_in_their_ranges_pass_also_as_texts(ranges):
    good = {"horizon": 30, "rate": 0.5, "top": 1, "early": -3, "start": "2020-01-01", "bands": [], "share": None}
    assert check_parameters(ranges, good) == good
    texts = ["horizon=30", "rate=0.5", "early=-3", "start=2020-01-01", "bands=1,2", "share=0.5"]
    given = check_parameters(ranges, parse_settings(ranges, texts))
    assert given["bands"] == [1, 2]
    assert given["share"] == 0.5


@pytest.mark.parametrize(
    "annotation",
    [
        "1 <= int <= 30 <= 50",
        "1 <= str",
        "1 < 2",
        "int < float",
        "1 <= int >= 3",
        "1 == int",
        "0 <= date",
        "int <= 'x'",
    ],
)
def test_a_comparison_that_is_no_range_is_refused(tmp_path, annotation):
    with pytest.raises(ParameterError, match="line 1"):
        read_parameters(write(tmp_path / "n.ipynb", (f'x: "{annotation}" = 2', ["parameters"])))


def test_a_default_out_of_its_own_range_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="the default of x: 5 is not a whole number, at most 3"):
        read_parameters(write(tmp_path / "n.ipynb", ('x: "int <= 3" = 5', ["parameters"])))


def _read(cell):
    return parameters_of({"cells": [{"cell_type": "code", "source": cell, "metadata": {"tags": ["parameters"]}}]}, "n")


@given(low=st.integers(), high=st.integers(), value=st.integers())
def test_a_range_has_exactly_what_lies_in_it(low, high, value):
    low, high = sorted((low, high))
    (parameter,) = _read(f'x: "{low} <= int < {high + 1}" = {low}')
    try:
        check_parameters([parameter], {"x": value})
        assert low <= value <= high
    except ParameterError:
        assert not low <= value <= high


def test_other_programs_get_a_schema(ranges, parameters):
    schemas = {p.name: as_json(p)["schema"] for p in [*parameters, *ranges]}
    json.dumps(schemas)
    assert schemas["horizon"] == {"type": "integer", "minimum": 1, "maximum": 30}
    assert schemas["rate"] == {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    assert schemas["model"] == {"type": "string", "enum": ["BG", "Pareto"]}
    assert schemas["start"]["format"] == "date"
    assert schemas["names"] == {"type": "array", "items": {"type": "string"}}
    assert all(in_words(p.type) for p in [*parameters, *ranges])


HOSTILE = [
    '"); import os; os.system("touch pwned") #',
    "'" * 3,
    '"' * 3,
    '\\"\nimport os',
    "\\",
    "a\nb\r\nc\u2028d\x85e\x0cf\x00g",
    "{x} %s $x `x` !x %magic\n%%bash\nrm",
    "\ud800 half a pair",
    "\u202e right to left, 顾客 \U0001f4a5",
    "x" * 1_000_000,
    "",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_gets_out_of_its_quotes(parameters, text):
    _assert_only_assigns(check_parameters(parameters, {"dataset": text, "segments": [text, text], "names": [text]}))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "dataset": st.text(st.characters(), max_size=50),
            "segments": st.lists(st.text(st.characters()), max_size=3),
            "horizon": st.integers(-(10**40), 10**40),
            "rate": st.floats(),
            "fast": st.booleans(),
        },
    )
)
def test_the_injected_cell_assigns_the_values_and_does_nothing_else(values):
    cell = "dataset: str = ''\nsegments: list[str] = []\nhorizon: int = 1\nrate: float = 0\nfast: bool = False"
    try:
        _assert_only_assigns(check_parameters(_read(cell), values))
    except ParameterError:
        # Only what JSON does not have is refused.
        assert not math.isfinite(values["rate"])


def _assert_only_assigns(checked):
    """Check the cell that papermill writes."""
    tree = ast.parse(PythonTranslator.codify(checked))
    assert {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body} == checked


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf"])
def test_numbers_that_json_does_not_have_are_refused(parameters, value):
    with pytest.raises(ParameterError, match="is not a number"):
        check_parameters(parameters, {"rate": value})


def test_a_name_can_only_be_one_that_the_notebook_has(parameters):
    for name in ("horizon = 1; import os #", "__builtins__", "", "print", "dataset\n"):
        with pytest.raises(ParameterError, match="no such parameter"):
            check_parameters(parameters, {name: 1})


def test_a_message_does_not_tell_what_is_known_to_be_secret(parameters):
    secret = "k3y-" + "x" * 100
    with pytest.raises(ParameterError) as caught:
        check_parameters(parameters, {"horizon": secret}, [secret])
    assert "k3y" not in str(caught.value)


def test_files_that_other_parameters_name_are_found_too_and_plain_words_are_left_alone(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x")
    notebook = tmp_path / "notebooks" / "a.ipynb"
    given = {"dataset": "*.csv", "log": "b.csv", "sign": ".", "model": "M/G", "gone": "gone.csv", "long": "./" * 5000}
    values, files = locate_dataset(given, tmp_path, notebook)
    assert values == given | {"dataset": "../*.csv", "log": "../b.csv"}
    assert files == (tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "b.csv")


def test_a_data_set_in_a_store_is_one_to_look_at(tmp_path):
    given = {"dataset": "s3://shop/a.parquet"}
    assert locate_dataset(given, tmp_path, tmp_path / "a.ipynb") == (given, ("s3://shop/a.parquet",))
