"""Execute one run of a notebook in a kernel of its own and say plainly how it went."""

import contextlib
import logging
import math
import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from crmlab.data.masking import mask, passwords

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class RunError(Exception):
    """A run failed.

    Parameters
    ----------
    kind : str
        ``"notebook"`` (a cell raised), ``"timeout"``, ``"kernel"`` (it died) or ``"report"`` (no page could be made).
    message : str
        What happened, in words.
    details : str, optional
        Last lines of the traceback or of what the kernel wrote.
    notebook : dict, optional
        The notebook as far as it came.
    """

    def __init__(self, kind, message, details="", notebook=None):
        super().__init__(mask(message))
        self.kind, self.details, self.notebook = kind, mask(details), notebook


class Kernels:
    """The kernels that run now, so that all of them can be stopped from another thread."""

    def __init__(self):
        self._lock, self._processes, self.stopped = threading.Lock(), set(), False

    def add(self, process):
        """Remember a kernel; it is killed at once when everything was stopped in the meantime."""
        with self._lock:
            self._processes.add(process)
        if self.stopped:
            self.stop()

    def remove(self, process):
        """Forget a kernel."""
        with self._lock:
            self._processes.discard(process)

    def stop(self):
        """Kill the kernels that run, and those that start from now on."""
        self.stopped = True
        with self._lock:
            for process in self._processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def execute(run, kernels, single_thread=False, on_cell=None):
    """Execute the notebook of a run with papermill, in a thread that has no event loop running.

    The kernel is this interpreter, whatever kernel the notebook names; it talks over private sockets, works in the
    notebook's folder, and is gone when this returns.

    Parameters
    ----------
    run : Run
        What to execute.
    kernels : Kernels
        Where the kernel is listed while it runs.
    single_thread : bool, optional
        Keep the numerical libraries to one thread, for kernels that run side by side.
    on_cell : callable, optional
        Called with the number of each cell as it starts and the number of cells.

    Returns
    -------
    nbformat.NotebookNode
        The executed notebook; passwords of database addresses are masked in it.

    Raises
    ------
    RunError
        If a cell raises, the time is up or the kernel dies.
    """
    import nbformat
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    # papermill logs what is reported here in better words.
    logging.getLogger("papermill").setLevel(logging.CRITICAL + 1)
    source = nbformat.read(run.notebook, as_version=4)
    # A copy saved by an earlier run would otherwise bring its old values along.
    source.cells = [cell for cell in source.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    seen = {"notebook": source, "cell": 0}
    deadline = time.monotonic() + run.timeout

    def cell_starts(cell, cell_index):
        # The injected cell is not in the author's notebook and does not count.
        before = seen["notebook"].cells[:cell_index]
        seen["cell"] = cell_index + 1 - sum("injected-parameters" in c.metadata.get("tags", []) for c in before)
        seen["source"] = next((line for line in cell.source.splitlines() if line.strip()), "")
        if on_cell:
            on_cell(seen["cell"], len(source.cells))

    def failure(kind, what, details=""):
        where = f" in cell {seen['cell']} ({seen['source'].strip()[:100]})" if seen["cell"] else ""
        details = "\n".join(_COLOUR.sub("", details).strip().splitlines()[-15:])
        known = passwords(run.parameters)
        return RunError(kind, mask(f"{what}{where}", known), mask(details, known), _tidy(seen["notebook"], run))

    # The loop is this thread's and would otherwise stay open when the thread ends.
    with tempfile.TemporaryDirectory(prefix="crmlab-") as private, contextlib.closing(ensure_event_loop()):
        log = Path(private, "log")
        try:
            notebook = papermill.execute_notebook(
                source,
                None,
                run.parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,
                shutdown_kernel="immediate",
                kernel_manager_class=_kernel_class(private, log, kernels, single_thread),
                resources={"metadata": {"path": str(run.notebook.resolve().parent)}},
                # A whole report has the time, so each cell has what is left of it.
                timeout_func=lambda cell: max(1, deadline - time.monotonic()),
                # Large outputs may arrive late; four seconds, the default, would pass for a report that takes too long.
                iopub_timeout=math.ceil(run.timeout),
                on_notebook_start=lambda notebook: seen.update(notebook=notebook),
                on_cell_start=cell_starts,
            )
        except papermill.PapermillExecutionError as error:
            what = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
            raise failure("notebook", what, "\n".join(error.traceback)) from None
        except CellTimeoutError:
            raise failure("timeout", f"the report took longer than its {run.timeout:g} seconds, stopped") from None
        except (DeadKernelError, RuntimeError) as error:
            # A kernel that never started is a RuntimeError of its own.
            what = "the kernel died" if seen["cell"] else f"the kernel did not start: {error}"
            raise failure("kernel", what, log.read_text(errors="replace") if log.exists() else "") from None
    return _tidy(notebook, run)


def _kernel_class(private, log, kernels, single_thread):
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    limits = {name: os.environ.get(name, "1") for name in _THREADS} if single_thread else {}

    class PrivateKernel(AsyncKernelManager):
        @property
        def kernel_spec(self):
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python", env=limits)

        async def start_kernel(self, **options):
            # Sockets in a folder of their own: nobody else on the machine reads along, and no two kernels meet.
            self.transport, self.connection_file = "ipc", str(Path(private, "kernel.json"))
            with log.open("wb") as stream:
                await super().start_kernel(stdout=stream, stderr=stream, **options)
            self.crmlab_process = self.provisioner.process
            kernels.add(self.crmlab_process)

        async def cleanup_resources(self, restart=False):
            kernels.remove(getattr(self, "crmlab_process", None))
            await super().cleanup_resources(restart=restart)

    return PrivateKernel


def _tidy(notebook, run):
    """Mask passwords and drop what papermill notes for itself, such as paths of this machine."""
    import nbformat

    for part in [notebook, *notebook.cells]:
        part.metadata.pop("papermill", None)
    notebook.metadata["crmlab"] = {"parameters": run.parameters}
    return nbformat.from_dict(mask(notebook, passwords(run.parameters)))
