"""pyproject.toml, the lock files and environment.yml say the same."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Spark has a lock of its own, because it is large.
LOCK = "".join((ROOT / name).read_text() for name in ("requirements.lock", "tests/requirements-spark.lock"))


def locked():
    pins = {}
    for line in re.findall(r"^([A-Za-z0-9][^\n\\]*==[^\n\\]*)", LOCK, re.MULTILINE):
        requirement = Requirement(line.strip())
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def wanted():
    project = PROJECT["project"]
    # The paths are fsspec's and tested with S3; Google's store has no server that runs offline, and a large client.
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "gcs" for line in lines]
    tools = [*PROJECT["dependency-groups"]["dev"], *PROJECT["build-system"]["requires"]]
    return [*project["dependencies"], *extras, *tools]


@pytest.mark.parametrize("line", wanted())
def test_the_lock_satisfies_what_the_project_requires(line):
    requirement = Requirement(line)
    pins = locked().get(canonicalize_name(requirement.name))
    assert pins, f"{requirement.name} is not in requirements.lock: run `make lock`"
    for pin in pins:
        version = str(pin.specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), f"{pin} does not satisfy {requirement}"


def test_every_locked_package_has_hashes_and_the_lock_names_no_address():
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) > 100
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", LOCK)


def test_conda_installs_exactly_the_lock_on_a_supported_python():
    text = (ROOT / "environment.yml").read_text()
    assert re.findall(r"^\s+- -r (\S+)$", text, re.MULTILINE) == ["requirements.lock"]
    python = re.search(r"- python=([\d.]+)", text)[1]
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(f"{python}.0")


def test_importing_the_package_is_cheap_and_loads_neither_pandas_nor_matplotlib():
    code = "import crmlab, sys; print(sorted({'pandas', 'matplotlib', 'numpy', 'ibis', 'scipy'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_names_of_the_package_load_on_first_use():
    import crmlab

    for room in crmlab.__all__:
        module = getattr(crmlab, room)
        for name in getattr(module, "__all__", ()):
            assert getattr(module, name) is not None
            assert not isinstance(getattr(module, name), type(crmlab)), f"{room}.{name} is hidden by a module"
    with pytest.raises(AttributeError, match="nothing"):
        _ = crmlab.nothing
