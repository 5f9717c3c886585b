"""The kernel that runs a report: IPython's, with a limit to what it can show.

A cell that prints for ever, or shows a table of millions of rows, would otherwise fill the memory of the build and
then the page. What is printed beyond the limit is left out and a note says so; what is displayed beyond it raises in
the cell that displays it, because a missing table must not go unnoticed.
"""

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.session import Session

PRINTED = 2_000_000
"""Letters that a report may print in all."""

DISPLAYED = 100_000_000
"""Letters of all figures and tables that a report may display, as the notebook stores them."""

MESSAGE = 100_000
"""Letters of one text in an error."""


def serve(arguments):
    """Run a kernel until it is told to end.

    Parameters
    ----------
    arguments : list of str
        Arguments of ipykernel, such as ``["-f", "connection.json"]``.
    """
    app = IPKernelApp.instance()
    app.session = Bounded(parent=app)
    # What is executed, secret parameters too, must not stay in the history of the user's own sessions.
    app.initialize([*arguments, *{"--HistoryManager.hist_file=:memory:"}.difference(arguments)])
    app.start()


class Bounded(Session):
    """Session that counts what it sends to the reader of a notebook."""

    printed = displayed = 0

    def send(self, stream, msg_or_type, content=None, *arguments, **options):
        """Send a message, without what is beyond the limits.

        Parameters
        ----------
        stream : zmq.Socket
            Where to.
        msg_or_type : dict or str
            Message, or its type.
        content : dict, optional
            Content of a message that is given by its type.
        *arguments, **options
            As in jupyter_client.

        Returns
        -------
        dict or None
            The message that was sent.

        Raises
        ------
        ValueError
            If a display is too large.
        """
        whole = isinstance(msg_or_type, dict)
        kind = msg_or_type["header"]["msg_type"] if whole else msg_or_type
        body = msg_or_type["content"] if whole else content
        if kind == "stream":
            room = PRINTED - self.printed
            self.printed += len(body["text"])
            if room < 0:
                return None
            if room < len(body["text"]):
                note = f"\n[The rest is left out: more than {PRINTED:,} letters were printed.]\n"
                body["text"] = body["text"][:room] + note
        elif kind in ("display_data", "update_display_data", "execute_result"):
            size = sum(
                len(form) if isinstance(form, str | bytes) else len(repr(form)) for form in body["data"].values()
            )
            if self.displayed + size > DISPLAYED:
                raise ValueError(
                    f"An output of {size:,} letters, after {self.displayed:,} before it, is more than a report can "
                    f"show ({DISPLAYED:,}). Show fewer rows, or write them to a file of your own."
                )
            self.displayed += size
        elif kind in ("error", "execute_reply"):
            for name, text in list(body.items()):
                if isinstance(text, str):
                    body[name] = text[:MESSAGE]
                elif name == "traceback":
                    body[name] = [line[:MESSAGE] for line in text]
        return super().send(stream, msg_or_type, content, *arguments, **options)
