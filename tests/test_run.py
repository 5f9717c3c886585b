"""The promises of `crmlab.report.run`: each kind of end is told apart, and nothing is left behind."""

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import pytest

from crmlab.report.manifest import Run
from crmlab.report.run import Kernels, RunError, execute

HOSTILE = "quotes ' \" \\\" ''' newline \n back\\slash \\n $x {y} %s \"); import os # \x00 顾客 \u202e"


def notebook(path, *cells, name="weird"):
    parameters = nbformat.v4.new_code_cell("text: str = 'default'\npid: str = ''", metadata={"tags": ["parameters"]})
    kernel = {"name": name, "display_name": name, "language": "julia"}
    content = nbformat.v4.new_notebook(
        cells=[parameters, *map(nbformat.v4.new_code_cell, cells)], metadata={"kernelspec": kernel}
    )
    nbformat.write(content, path)
    return path


def run(tmp_path, *cells, timeout=30.0, **parameters):
    return Run("x", "X", notebook(tmp_path / "n {b}.ipynb", *cells), parameters, timeout)


def output(executed):
    return "".join(out.get("text", "") for cell in executed.cells for out in cell.get("outputs", []))


@pytest.fixture(autouse=True)
def no_leftovers(monkeypatch):
    """Give each test a folder for temporary files, short enough for sockets, that must be empty in the end."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        assert list(Path(folder).iterdir()) == []


def test_a_notebook_runs_in_this_interpreter_in_its_folder_with_values_as_data(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cells = ["import os, sys", "print(repr((text, sys.executable, os.getcwd(), os.environ.get('OMP_NUM_THREADS'))))"]
    seen = []
    executed = execute(run(tmp_path, *cells, text=HOSTILE), Kernels(), True, lambda *where: seen.append(where))
    assert eval(output(executed)) == (HOSTILE, sys.executable, str(tmp_path), "1")
    assert seen[-1] == (3, 3)
    assert "papermill" not in executed.metadata
    assert str(tmp_path) not in str(executed.metadata)


def test_passwords_reach_the_kernel_but_not_the_notebook(tmp_path):
    address = "postgres://ann:s3cret@host/sales"
    executed = execute(run(tmp_path, "print(text, len(text))", text=address), Kernels())
    assert output(executed) == f"postgres://ann:***@host/sales {len(address)}\n"
    assert "s3cret" not in str(executed)


def test_an_old_injected_cell_brings_no_old_values(tmp_path):
    path = notebook(tmp_path / "n.ipynb", "print(text)")
    content = nbformat.read(path, as_version=4)
    content.cells.insert(1, nbformat.v4.new_code_cell("text = 'old'", metadata={"tags": ["injected-parameters"]}))
    nbformat.write(content, path)
    assert output(execute(Run("x", "X", path, {}, 30.0), Kernels())) == "default\n"


def failure(tmp_path, *cells, **options):
    with pytest.raises(RunError) as caught:
        execute(run(tmp_path, *cells, **options), Kernels())
    return caught.value


def test_a_raising_cell_is_named_by_number_and_first_line(tmp_path):
    error = failure(tmp_path, "print('before')", "\nraise ValueError('no such customer')\n", "print('after')", text="x")
    assert error.kind == "notebook"
    assert str(error) == "ValueError: no such customer in cell 3 (raise ValueError('no such customer'))"
    assert error.details.endswith("ValueError: no such customer")
    assert "\x1b" not in error.details
    assert output(error.notebook) == "before\n"


def test_a_report_that_takes_too_long_is_stopped(tmp_path):
    clock = time.monotonic()
    error = failure(tmp_path, "print('before')", "while True: pass", timeout=2.0)
    assert error.kind == "timeout"
    assert str(error) == "the report took longer than its 2 seconds, stopped in cell 3 (while True: pass)"
    assert time.monotonic() - clock < 6
    assert output(error.notebook) == "before\n"


def test_a_kernel_that_dies_is_told_apart(tmp_path):
    error = failure(tmp_path, "import os", "os._exit(1)")
    assert (error.kind, str(error)) == ("kernel", "the kernel died (exit code 1) in cell 3 (os._exit(1))")
    error = failure(tmp_path, "import ctypes", "ctypes.string_at(0)")
    assert (error.kind, str(error)) == ("kernel", "the kernel died (SIGSEGV) in cell 3 (ctypes.string_at(0))")


def test_a_kernel_that_the_system_killed_is_taken_for_one_without_memory(tmp_path):
    error = failure(tmp_path, "import os", "os.kill(os.getpid(), 9)")
    assert error.kind == "memory"
    assert "killed by the system" in str(error)
    assert "memory ran out in cell 3 (os.kill" in str(error)


def test_a_cell_that_finds_no_memory_is_told_apart(tmp_path):
    error = failure(tmp_path, "raise MemoryError('3 GB')")
    assert (error.kind, str(error)) == ("memory", "MemoryError: 3 GB in cell 2 (raise MemoryError('3 GB'))")


def test_a_damaged_notebook_is_told(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text('{"nbformat": 4, "cells": [{"cell_type": "code"')
    with pytest.raises(RunError, match=r"n\.ipynb is damaged \(.+\); open and save it in JupyterLab"):
        execute(Run("x", "X", path, {}, 30.0), Kernels())


def test_a_kernel_that_does_not_start_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    error = failure(tmp_path, "1")
    assert error.kind == "kernel"
    assert "did not start" in str(error)


def test_stopping_kills_the_kernels_that_run(tmp_path):
    kernels, found = Kernels(), {}
    cells = ["import os, pathlib, time\npathlib.Path(pid).write_text(str(os.getpid()))\ntime.sleep(60)"]
    pid = tmp_path / "pid"

    def work():
        try:
            execute(run(tmp_path, *cells, pid=str(pid)), kernels)
        except RunError as error:
            found["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    kernels.stop()
    thread.join(10)
    assert found["error"].kind == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIG_DFL)


def test_nothing_starts_after_stopping(tmp_path):
    kernels = Kernels()
    kernels.stop()
    with pytest.raises(RunError):
        execute(run(tmp_path, "1"), kernels)
