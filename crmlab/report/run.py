"""Execute one run of a notebook in a kernel of its own and say plainly how it went."""

import asyncio
import contextlib
import datetime
import hashlib
import itertools
import logging
import math
import os
import platform
import queue
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from crmlab.data.masking import mask
from crmlab.report.warm import THREADS

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Short, because the paths of sockets are; by host, because containers may share a folder but not their processes.
_PRIVATE = f"crmlab-{hashlib.sha256(platform.node().encode()).hexdigest()[:6]}-"
_WIDGET = "application/vnd.jupyter.widget-view+json"
# Not with -m: a file beside the notebook would take the place of a module of that name.
_START = "import sys; del sys.path[0]; from crmlab.report.kernel import serve; serve(sys.argv[1:])"
# Seconds between looks at a kernel that was killed.
_SOON = 0.005


class RunError(Exception):
    """A run failed.

    Parameters
    ----------
    kind : str
        ``"notebook"`` (a cell raised), ``"timeout"``, ``"kernel"`` (it died), ``"memory"`` (there was not enough),
        ``"stopped"`` (the build was) or ``"report"`` (no page could be made).
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
        self._lock, self._processes, self._stopping = threading.Lock(), set(), threading.Event()

    @property
    def stopped(self):
        """Whether everything was stopped."""
        return self._stopping.is_set()

    def wait(self, seconds):
        """Wait, but not beyond the moment in which everything is stopped; return whether it was."""
        return self._stopping.wait(seconds)

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
        self._stopping.set()
        with self._lock:
            for process in self._processes:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)


def execute(run, kernels, single_thread=False, on_cell=None, server=None, content=None):
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
    server : crmlab.report.warm.Server, optional
        From where the kernel is forked; without, it starts from nothing.
    content : bytes, optional
        The notebook, where its file is not at hand; the kernel then works in its folder if there is one.

    Returns
    -------
    nbformat.NotebookNode
        The executed notebook; passwords of database addresses are masked in it.

    Raises
    ------
    RunError
        If a cell raises, the time is up or the kernel dies.
    """
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    # papermill logs what is reported here in better words.
    logging.getLogger("papermill").setLevel(logging.CRITICAL + 1)
    source = _read(run, content)
    # A copy saved by an earlier run would otherwise bring its old values along.
    source.cells = [cell for cell in source.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    seen = {"notebook": source, "cell": 0, "process": None}
    deadline, killed, known = time.monotonic() + run.timeout, _killed_for_memory(), run.known

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
        return RunError(kind, mask(f"{what}{where}", known), mask(details, known), _tidy(seen["notebook"], run))

    def death(error):
        if kernels.stopped:
            return failure("stopped", "stopped before it was finished")
        written = log.read_text(errors="replace") if log.exists() else ""
        code = seen["process"] and seen["process"].poll()
        if code == -signal.SIGKILL:
            sure = _killed_for_memory() > killed
            reason = "because memory ran out" if sure else "(signal 9), probably because memory ran out"
            return failure("memory", f"the kernel was killed by the system {reason}", written)
        how = f" ({signal.Signals(-code).name})" if code and code < 0 else f" (exit code {code})" if code else ""
        # A kernel that never started is a RuntimeError of its own.
        what = f"the kernel died{how}" if seen["cell"] else f"the kernel did not start: {error}"
        return failure("kernel", what, written)

    # The loop is this thread's and would otherwise stay open when the thread ends.
    with (
        tempfile.TemporaryDirectory(prefix=f"{_PRIVATE}{os.getpid()}-") as private,
        contextlib.closing(ensure_event_loop()),
    ):
        log, folder = Path(private, "log"), run.notebook.resolve().parent
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
                kernel_manager_class=_kernel_class(private, log, kernels, single_thread, server, seen),
                resources={"metadata": {"path": str(folder if folder.is_dir() else private)}},
                # A whole report has the time, so each cell has what is left of it.
                timeout_func=lambda cell: max(1, deadline - time.monotonic()),
                # Large outputs may arrive late; four seconds, the default, would pass for a report that takes too long.
                iopub_timeout=math.ceil(run.timeout),
                on_notebook_start=lambda notebook: seen.update(notebook=notebook),
                on_cell_start=cell_starts,
            )
        except papermill.PapermillExecutionError as error:
            what = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
            kind = "memory" if error.ename == "MemoryError" else "notebook"
            raise failure(kind, what, "\n".join(error.traceback)) from None
        except CellTimeoutError:
            raise failure("timeout", f"the report took longer than its {run.timeout:g} seconds, stopped") from None
        except (DeadKernelError, RuntimeError, OSError) as error:
            raise death(error) from None
    return _tidy(notebook, run)


def cell_seconds(notebook):
    """Return how long the kernel worked on the cells of an executed notebook, by its own clock.

    Parameters
    ----------
    notebook : dict
        An executed notebook.

    Returns
    -------
    float
        Seconds.
    """
    spans = [cell["metadata"].get("execution", {}) for cell in notebook["cells"]]
    ends = [(span.get("iopub.status.busy"), span.get("iopub.status.idle")) for span in spans]
    moment = datetime.datetime.fromisoformat
    return sum((moment(end) - moment(start)).total_seconds() for start, end in ends if start and end)


def clear_private():
    """Remove the folders of kernels whose build was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PRIVATE}*-*"):
        with contextlib.suppress(OSError, ValueError):
            try:
                os.kill(int(folder.name.removeprefix(_PRIVATE).partition("-")[0]), 0)
            except ProcessLookupError:
                shutil.rmtree(folder)


def _read(run, content):
    import nbformat

    try:
        return nbformat.reads((content or run.notebook.read_bytes()).decode(), as_version=4)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"{run.notebook.name} is damaged ({mask(first, run.known)}); open and save it in JupyterLab"
        raise RunError("notebook", message) from None


def _killed_for_memory():
    """Return how many processes of this one's group the system has killed for want of memory, 0 where it keeps that."""
    found = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _number, controllers, group = line.split(":", 2)
            if controllers in ("", "memory"):
                folder = Path("/sys/fs/cgroup", controllers, group.lstrip("/"))
                counts = (folder / ("memory.oom_control" if controllers else "memory.events")).read_text()
                found += sum(int(n) for name, n in map(str.split, counts.splitlines()) if name == "oom_kill")
    return found


def _kernel_class(private, log, kernels, single_thread, server, seen):
    from jupyter_client import AsyncKernelClient, AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.provisioning import LocalProvisioner

    limits = {name: os.environ.get(name, "1") for name in THREADS} if single_thread else {}

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd, **options):
            if server is None:
                connection = await super().launch_kernel(cmd, **options)
            else:
                # Without the interpreter and what it executes.
                self.process = server.fork(cmd[3:], str(options["cwd"]), limits, options["stdout"])
                self.pid = self.pgid = self.process.pid
                connection = self.connection_info
            seen["process"] = self.process
            kernels.add(self.process)
            return connection

        async def wait(self):
            while self.process and self.process.poll() is None:
                await asyncio.sleep(_SOON)
            return await super().wait()

    class Client(AsyncKernelClient):
        async def wait_for_ready(self, timeout=60):
            # As in jupyter_client, but without waiting for messages that nobody will miss.
            end = time.monotonic() + timeout
            while time.monotonic() < end:
                self.kernel_info()
                with contextlib.suppress(queue.Empty):
                    await self.get_shell_msg(timeout=1)
                    await self.get_iopub_msg(timeout=1)
                    return
                if not await self.is_alive():
                    raise RuntimeError("it ended at once")
            raise RuntimeError(f"it did not answer in {timeout} seconds")

    class PrivateKernel(AsyncKernelManager):
        client_factory = Client

        @property
        def kernel_spec(self):
            argv = [sys.executable, "-c", _START, "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python", env=limits)

        async def start_kernel(self, **options):
            # Sockets in a folder of their own: nobody else on the machine reads along, and no two kernels meet.
            self.transport, self.connection_file = "ipc", str(Path(private, "kernel.json"))
            self.kernel_id = str(uuid.uuid4())
            self.provisioner = Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            with log.open("wb") as stream:
                await super().start_kernel(stdout=stream, stderr=stream, **options)

        async def cleanup_resources(self, restart=False):
            kernels.remove(seen["process"])
            await super().cleanup_resources(restart=restart)

    return PrivateKernel


def _tidy(notebook, run):
    """Mask passwords and drop what papermill notes for itself, such as paths of this machine."""
    import nbformat

    for part in [notebook, *notebook.cells]:
        part.metadata.pop("papermill", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            # A control, such as a progress bar, is nothing without the page it runs in.
            cell.outputs = _joined(output for output in cell.outputs if _WIDGET not in output.get("data", {}))
    notebook.metadata["crmlab"] = {"parameters": run.shown}
    return nbformat.from_dict(mask(notebook, run.known))


def _joined(outputs):
    """Make one text of what a cell prints in pieces, however they fell; nbclient takes hours for one very long line."""
    joined = []
    for name, group in itertools.groupby(outputs, lambda output: output.get("name")):
        found = list(group)
        if name:
            found[0].text = "".join(output.text for output in found)
        joined += found[:1] if name else found
    return joined
