"""Where notebooks run: in kernels of this machine, or on the workers of a Dask cluster.

Either way an executor is a function that executes the notebook of a run, and everything else happens here: pages are
made and published by the process that builds.
"""

import contextlib
import dataclasses
import os
import pickle
import re
import uuid

from crmlab.report.manifest import ManifestError

# Warm kernels pay from this number of reports on: the imports for all take as long as two of them.
_WARM = 3
_SCHEME = re.compile(r"dask://(?=[^/])")
# The kernels of each build that run in this worker, by the build's token.
_running = {}


@contextlib.contextmanager
def executor_of(name, runs, jobs, on_event):
    """Give what executes notebooks.

    Parameters
    ----------
    name : str
        ``"local"`` or the address of a Dask scheduler such as ``"dask://host:8786"``.
    runs : list of Run
        What is to be executed.
    jobs : int or None
        How many at a time.
    on_event : callable
        Told what is not as it should be.

    Yields
    ------
    execute : callable
        Of a run and of what is called for each cell; returns the executed notebook or raises RunError.
    kernels : Kernels
        What stops everything that runs.
    jobs : int
        How many run at a time.

    Raises
    ------
    ManifestError
        If the name is none, or the cluster cannot be used.
    """
    if name == "local":
        with _local(runs, jobs, on_event) as given:
            yield given
    elif _SCHEME.match(name):
        with _dask(_SCHEME.sub("tcp://", name), runs, jobs) as given:
            yield given
    else:
        raise ManifestError(f"{name!r} is no executor; use local, or the address of a scheduler: dask://host:8786.")


@contextlib.contextmanager
def _local(runs, jobs, on_event):
    from crmlab.report import warm

    jobs = min(jobs or getattr(os, "process_cpu_count", os.cpu_count)() or 1, len(runs))
    server = None
    if len(runs) >= _WARM and warm.can_fork():
        server = warm.Server(warm.imported({run.notebook for run in runs}))
    try:
        # While the other process imports. Once and here, because threads that import the same packages at the same
        # time wait for each other.
        import papermill  # noqa: F401

        from crmlab.report.run import Kernels, clear_private, execute

        clear_private()
        if server and (problem := server.problem()):
            on_event("", "warning", f"Kernels start slowly, one by one: {problem}.")
            server.close()
            server = None
        kernels = Kernels()
        yield lambda run, on_cell: execute(run, kernels, jobs > 1, on_cell, server), kernels, jobs
    finally:
        if server:
            server.close()


@contextlib.contextmanager
def _dask(address, runs, jobs):
    try:
        import distributed
    except ImportError:
        raise ManifestError("For --executor dask://… install the extra: pip install 'crmlab[cluster]'.") from None
    from crmlab.report.run import Kernels, RunError

    try:
        client = distributed.Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ManifestError(f"No Dask scheduler answers at {address}: {error}.") from None
    with client:
        _check_workers(client)
        token, kernels = uuid.uuid4().hex, Kernels()

        def execute(run, on_cell):
            import nbformat

            content = run.notebook.read_bytes()
            # As bytes, so that no dashboard shows what is in it.
            task = pickle.dumps((_absolute(run), content))
            # A name that is new: a result of another build is none of this one.
            key = f"crmlab-{run.slug}-{uuid.uuid4().hex}"
            future = client.submit(on_worker, task, token, key=key, pure=False)
            try:
                while not kernels.stopped:
                    try:
                        found = future.result(timeout=0.5)
                        break
                    except TimeoutError:
                        # Not that of waiting, but one of the task.
                        if future.done():
                            raise
                else:
                    raise RunError("stopped", "stopped before it was finished")
            except RunError:
                raise
            except Exception as error:
                message = f"the worker was lost ({type(error).__name__}), perhaps because its memory ran out"
                raise RunError("kernel", message) from None
            finally:
                future.release()
            notebook = found["notebook"] and nbformat.reads(found["notebook"], as_version=4)
            if found["error"]:
                kind, message, details = found["error"]
                raise RunError(kind, message, details, notebook)
            return notebook

        try:
            yield execute, kernels, min(jobs or sum(client.nthreads().values()), len(runs))
        finally:
            if kernels.stopped:
                client.run(stop_on_worker, token)


def on_worker(task, token):
    """Execute a run on a worker of a cluster.

    Parameters
    ----------
    task : bytes
        The run and the bytes of its notebook.
    token : str
        Names the build.

    Returns
    -------
    dict
        ``notebook``, a text, and ``error``: kind, message and details, or None.
    """
    import nbformat

    from crmlab.report.run import Kernels, RunError, execute

    run, content = pickle.loads(task)
    kernels = _running.setdefault(token, Kernels())
    try:
        return {"notebook": nbformat.writes(execute(run, kernels, True, content=content)), "error": None}
    except RunError as error:
        notebook = error.notebook and nbformat.writes(error.notebook)
        return {"notebook": notebook, "error": (error.kind, str(error), error.details)}


def stop_on_worker(token):
    """Stop what a build runs on this worker.

    Parameters
    ----------
    token : str
        Names the build.
    """
    from crmlab.report.run import Kernels

    _running.setdefault(token, Kernels()).stop()


def _absolute(run):
    """Return the run with the file of its data named by its whole path, because workers have folders of their own."""
    name = run.parameters.get("dataset")
    scheme, colon, path = name.rpartition("warehouse:") if isinstance(name, str) else ("", "", "")
    place = run.notebook.resolve().parent / path
    if not path or scheme or not place.exists():
        return dataclasses.replace(run, notebook=run.notebook.resolve())
    parameters = run.parameters | {"dataset": f"{colon}{place.resolve()}"}
    return dataclasses.replace(run, notebook=run.notebook.resolve(), parameters=parameters)


def _check_workers(client):
    """Refuse workers that have other versions than this process, which would give other results."""
    from crmlab.report.record import versions

    def found():
        # By value, because a worker without crmlab could not load a function of crmlab.
        try:
            from crmlab.report.record import versions

            return versions()
        except ImportError as error:
            return str(error)

    here, faults = versions(), []
    workers = client.run(found)
    if not workers:
        raise ManifestError("The Dask scheduler has no workers; start some with `dask worker`.")
    for worker, there in sorted(workers.items()):
        if isinstance(there, str):
            faults.append(f"{worker} cannot run reports: {there}")
        else:
            faults += [
                f"{worker} has {name} {there.get(name, 'not at all')}, here it is {version}"
                for name, version in here.items()
                if there.get(name) != version
            ]
    if faults:
        raise ManifestError("\n  ".join(["Workers need the same packages as this process:", *faults]))
