"""Kernels forked from a process that has already imported what notebooks import.

Most of a short report's time goes into imports. A process of its own, with no thread beside the first and no open
connection, imports once what the notebooks of a build name; each kernel is a fork of it. Forking is safe only from a
process with one thread: what starts threads while it is imported is told not to, or stopped (below), and where one is
found nevertheless, kernels start from nothing, as they do where there is no fork or no way to watch a fork (only Linux
has both).
"""

import ast
import builtins
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from crmlab.report.parameters import read_notebook

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# The numerical libraries start their threads when they are loaded, and so do the allocators of pyarrow and polars.
_QUIET = dict.fromkeys(THREADS, "1") | {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "_RJEM_MALLOC_CONF": "background_thread:false",
}
# It waits for files that polars no longer needs, without holding a lock; a fork does not miss it.
_HARMLESS = {"polars-ooc-clea"}
# What most notebooks of the workbook need, if only inside of functions.
_USUAL = (
    "IPython.core.pylabtools",
    "crmlab.report.kernel",
    "crmlab.report.record",
    "duckdb",
    "formulaic",
    "ibis.backends.duckdb",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "pandas.io.formats.style",
    "pyarrow.parquet",
    "scipy.optimize",
    "scipy.stats",
    "seaborn",
    "statsmodels.api",
)
# Packages whose import leaves nothing behind that depends on who imports: no widgets, no choice of a display.
_KNOWN = (
    {name.partition(".")[0] for name in _USUAL} | {"numpy", "networkx", "pandera", "sklearn"} | sys.stdlib_module_names
) - {"IPython"}
_PATIENCE = 300
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Fork:
    """A forked kernel, as far as one can look at the child of another process; shaped like `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid, channel):
        self.pid, self.returncode, self._channel = pid, None, channel

    def poll(self):
        """Return how it ended, or None while it runs."""
        if self.returncode is None:
            with contextlib.suppress(BlockingIOError):
                # Nothing at all is said when the process that forks is gone, which takes its children along.
                self.returncode = json.loads(self._channel.recv(64) or b"-9")
                self._channel.close()
        return self.returncode

    def wait(self):
        """Wait until it has ended."""
        if self.returncode is None:
            self._channel.setblocking(True)
        return self.poll()

    def send_signal(self, number):
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process from which kernels are forked.

    Parameters
    ----------
    modules : iterable of str
        What to import.
    """

    def __init__(self, modules):
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crmlab.report.warm", str(theirs.fileno())],
                env=os.environ | _QUIET | {"CRMLAB_ENVIRONMENT": json.dumps({n: os.environ.get(n) for n in _QUIET})},
                # A module of the folder in which the build was started must not take the place of an installed one.
                cwd="/",
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the build alone.
                start_new_session=True,
            )
        self._channel.send(json.dumps(sorted(modules)).encode())

    def problem(self):
        """Wait until everything is imported; return why no kernel can be forked, or None.

        Returns
        -------
        str or None
            The reason in words.
        """
        self._channel.settimeout(_PATIENCE)
        try:
            answer = self._channel.recv(1 << 16)
        except TimeoutError:
            return f"what they import took longer than {_PATIENCE} seconds"
        self._channel.settimeout(None)
        return json.loads(answer) if answer else "the process that imports for them ended"

    def fork(self, arguments, cwd, environment, log):
        """Start a kernel.

        Parameters
        ----------
        arguments : list of str
            Arguments of the kernel.
        cwd : str
            Its folder.
        environment : dict
            What its environment has beyond that of this process.
        log : file
            Where it writes what no cell prints.

        Returns
        -------
        Fork
            The kernel.

        Raises
        ------
        OSError
            If there cannot be another process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = json.dumps({"arguments": arguments, "cwd": cwd, "environment": environment}).encode()
            socket.send_fds(self._channel, [request], [theirs.fileno(), log.fileno()])
        pid = json.loads(ours.recv(64) or b"0")
        if not pid:
            ours.close()
            raise OSError("no kernel could be forked")
        ours.setblocking(False)
        return Fork(pid, ours)

    def close(self):
        """End the process and every kernel that still runs."""
        self._channel.close()
        self._process.wait()


def can_fork():
    """Tell whether this system can fork kernels and watch them.

    Returns
    -------
    bool
        On Linux from 5.3 on.
    """
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def imported(notebooks):
    """Find the modules that notebooks import and that may be imported for them, without running the notebooks.

    Parameters
    ----------
    notebooks : iterable of pathlib.Path
        The notebooks.

    Returns
    -------
    set of str
        Modules, those beside a notebook left out: the installed module of that name must not take their place.
    """
    found = set()
    for notebook in set(notebooks):
        for cell in read_notebook(notebook)["cells"]:
            with contextlib.suppress(SyntaxError, ValueError):
                for line in ast.walk(ast.parse(cell["source"] if cell["cell_type"] == "code" else "")):
                    if isinstance(line, ast.Import):
                        found |= {name.name for name in line.names}
                    elif isinstance(line, ast.ImportFrom) and line.module and not line.level:
                        found |= {line.module, *(f"{line.module}.{name.name}" for name in line.names)}
    folders = {notebook.resolve().parent for notebook in notebooks}
    beside = {path.name.removesuffix(".py") for folder in folders for path in folder.iterdir()}
    known = {name for name in found if name.partition(".")[0] in _KNOWN} | set(_USUAL)
    return {name for name in known if name.partition(".")[0] not in beside - {"crmlab"}}


def main():
    """Import, then fork a kernel for each request; return in the kernel, which then serves."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    before = json.loads(os.environ.pop("CRMLAB_ENVIRONMENT"))
    if sys.path[0] in ("", "/"):
        del sys.path[0]
    problem = _import(json.loads(channel.recv(1 << 20)))
    channel.send(json.dumps(problem).encode())
    request = None if problem else _serve(channel)
    if request is None:
        return
    for name in _QUIET:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in before.items() if value is not None} | request["environment"])
    _refresh()
    from crmlab.report.kernel import serve

    sys.argv = ["-c", *request["arguments"]]
    serve([*request["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"])


def _import(modules):
    """Import modules and tell what keeps this process from being forked."""
    # The kernel would set it; pyplot reads it when it is imported.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # By this pandas knows, when it is imported, that it is not in a terminal.
    builtins.get_ipython = lambda: types.SimpleNamespace(kernel=True)
    for module in modules:
        # A name may be that of a function, a module may be missing or broken: the cell that imports it will say so.
        with contextlib.suppress(BaseException):
            importlib.import_module(module)
    for room in [module for name, module in list(sys.modules.items()) if name.startswith("crmlab.")]:
        for name in getattr(room, "__all__", ()):
            with contextlib.suppress(Exception):
                getattr(room, name)
    del builtins.get_ipython
    if "duckdb" in sys.modules:
        # It connects while it is imported; a kernel that asks for this connection gets a new one.
        sys.modules["duckdb"].close()
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    others = sorted({(task / "comm").read_text().strip() for task in tasks} - _HARMLESS)
    return f"something they import runs threads ({', '.join(others)})" if others else None


def _serve(channel):
    """Fork for each request and tell how each kernel ends, until the build is gone; return the request in a kernel."""
    import gc

    # The collector would write to pages that all kernels share.
    gc.collect()
    gc.freeze()
    watched, poll = {}, select.poll()
    poll.register(channel, select.POLLIN)
    while True:
        for descriptor, _event in poll.poll():
            if descriptor != channel.fileno():
                pid, report = watched.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with report, contextlib.suppress(OSError):
                    report.send(json.dumps(ended).encode())
                continue
            message, passed, *_ = socket.recv_fds(channel, 1 << 20, 2)
            if not message:
                for pid, _report in watched.values():
                    with contextlib.suppress(OSError):
                        os.killpg(pid, signal.SIGKILL)
                return None
            request, parent = json.loads(message), os.getpid()
            report, log = socket.socket(fileno=passed[0]), passed[1]
            try:
                pid = os.fork()
            except OSError:
                pid = None
            if pid == 0:
                for open_one in [channel, report, *(other for _pid, other in watched.values())]:
                    open_one.close()
                for handle in watched:
                    os.close(handle)
                _become_kernel(request["cwd"], log, parent)
                return request
            os.close(log)
            with contextlib.suppress(OSError):
                report.send(json.dumps(pid or 0).encode())
            if pid:
                handle = os.pidfd_open(pid)
                watched[handle] = pid, report
                poll.register(handle, select.POLLIN)


def _become_kernel(cwd, log, parent):
    import ctypes

    os.setsid()
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.chdir(cwd)


def _refresh():
    """Give the fork what each process has of its own: random numbers, a folder for files, a number of threads."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    # Python's own generator is seeded anew by the fork.
    np.random.seed()  # noqa: NPY002
    tempfile.tempdir = None
    threads = os.environ.get("OMP_NUM_THREADS", "")
    threadpool_limits(int(threads) if threads.isdigit() and int(threads) else len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
