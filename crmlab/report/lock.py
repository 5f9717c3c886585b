"""One build at a time in a folder; single reports of it may be built side by side."""

import contextlib
import os
import platform

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FILE = ".lock"


class LockedError(ValueError):
    """Another build works in the folder."""

    exit_code = 3


@contextlib.contextmanager
def locked(out, together=False, alone=None):
    """Hold the lock of a site while the block runs.

    The system gives the lock back when a process ends, however it ends, so one that was killed is in nobody's way.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the site.
    together : bool, optional
        Share the lock with others that share it, but not with a whole build.
    alone : callable, optional
        Called when nobody else works in the folder, before anybody can.

    Yields
    ------
    None
        While the lock is held.

    Raises
    ------
    LockedError
        If another build holds it; the message names its process.
    """
    if fcntl is None:
        if alone:
            alone()
        yield
        return
    path = out / _FILE
    stream, single = _opened(path, together)
    with stream:
        if single and alone:
            alone()
        if single and together:
            _lock(stream, fcntl.LOCK_SH, path)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}")
        stream.flush()
        try:
            yield
        finally:
            # Who shares it still may need the file.
            with contextlib.suppress(OSError):
                if together:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _opened(path, together):
    """Return the locked file and whether nobody shares it."""
    while True:
        stream = path.open("a+", encoding="utf-8")
        try:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                single = True
            except BlockingIOError:
                _lock(stream, fcntl.LOCK_SH if together else fcntl.LOCK_EX, path)
                single = False
            # Who held it may have deleted the file after it was opened here.
            if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream, single
        except BaseException:
            stream.close()
            raise
        stream.close()


def _lock(stream, how, path):
    try:
        fcntl.flock(stream, how | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        who = stream.read() or "another process"
        raise LockedError(f"Another build works in {path.parent} ({who}); wait until it is done, or stop it.") from None
