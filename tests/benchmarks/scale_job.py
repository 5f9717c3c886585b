"""From a log in Parquet to scores in Parquet, on this machine or on a Spark cluster.

    python tests/benchmarks/scale_job.py LOG SCORES
    spark-submit --master "local-cluster[2,1,1024]" tests/benchmarks/scale_job.py LOG SCORES --engine spark

LOG is a folder (or, on Spark, an address) of Parquet files with customer_id and date; SCORES must not exist on Spark.
Standard output is one line of JSON: the stages with seconds, processor seconds and the peak of memory in MB so far (of
this process: on Spark that is the driver's Python), the number of states, the parameters.
"""

import json
import resource
import time
import warnings

import click


class Stages:
    """A clock: what each stage took since the one before."""

    def __init__(self):
        self.laps, self.last = {}, self.now()

    def now(self):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

    def lap(self, name):
        now = self.now()
        self.laps[name] = [now[0] - self.last[0], now[1] - self.last[1], now[2]]
        self.last = now


@click.command()
@click.argument("log")
@click.argument("scores")
@click.option("--engine", type=click.Choice(["duckdb", "spark"]), default="duckdb")
@click.option("--summary", "kept", help="Write the summary there too, when the clock has stopped.")
def main(log, scores, engine, kept):
    """Score the customers of LOG."""
    warnings.simplefilter("ignore")
    stages = Stages()
    import ibis

    from crmlab import clv, data

    clv.MBGNBD  # noqa: B018 - names load on first use
    stages.lap("import")
    if engine == "spark":
        from pyspark.sql import SparkSession

        session = SparkSession.builder.getOrCreate()
        log = ibis.pyspark.connect(session).read_parquet(log)
        stages.lap("connect")

    # What a user writes is from here to the last line of the job; the laps in between are the benchmark's.
    log = data.load(log, amount=None)  # purchases only: amounts matter to a spending model, not to this one
    stages.lap("open")
    summary = clv.summarize(log, unit="W").cache()
    stages.lap("summary")
    states = clv.states(summary)
    stages.lap("states")
    fit = clv.MBGNBD().fit(states)
    stages.lap("fit")
    predicted = fit.predict(summary, horizon=52)
    stages.lap("predict")
    data.write_parquet(predicted.select("customer_id", "p_alive", "expected_purchases"), scores)
    stages.lap("write")

    if kept:
        data.write_parquet(summary, kept)
    params, customers = {name: float(value) for name, value in fit.params.items()}, int(states["weight"].sum())
    found = {"stages": stages.laps, "customers": customers, "states": len(states), "params": params}
    click.echo(json.dumps(found))
    if engine == "spark":
        session.stop()


if __name__ == "__main__":
    main()
