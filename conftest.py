"""Options of the notebook tests: outputs are compared with the stored ones, cell by cell."""


def pytest_collectstart(collector):
    # stderr differs between machines, and the records are for the runner, not for the reader of a notebook.
    if getattr(collector, "skip_compare", None):
        collector.skip_compare += ("stderr", "application/vnd.crmlab.record+json")
