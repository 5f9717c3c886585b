"""Engines to run the same tests on: Polars, Spark with executors of their own, a PostgreSQL server."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import ibis
import polars as pl
import pytest


def missing(what, how):
    """Skip, because an engine is not here; in CI, where all are installed, that is a failure."""
    reason = f"{what}: {how}"
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(reason)
    pytest.fail(f"{reason} (CI is set: no engine may be missing)", pytrace=False)


@contextlib.contextmanager
def postgres_server():
    """Yield the address of a PostgreSQL server: the one of CRMLAB_TEST_POSTGRES, or an own one in a temporary folder.

    The server refuses to run as root: then it runs as the user `postgres` of the system's package.
    """
    if url := os.environ.get("CRMLAB_TEST_POSTGRES"):
        yield url
        return
    folders = [Path(shutil.which("initdb") or "/nowhere").parent, *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    bins = [folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()]
    if not bins:
        missing("No PostgreSQL server", "apt-get install postgresql, or name one: CRMLAB_TEST_POSTGRES=postgres://…")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    # Not below pytest's folders, which are for one user only.
    with tempfile.TemporaryDirectory(prefix="crmlab-pg-") as folder, socket.socket() as free:
        home = Path(folder)
        if as_user:
            shutil.chown(home, "postgres")
        (password := home / "password").write_text("s3cret-of-crmlab")
        password.chmod(0o644)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()

        def run(command, *arguments):
            # Its output goes to a file: the server would keep a pipe open.
            with (home / "log").open("a") as log:
                done = subprocess.run([*as_user, bins[-1] / command, "-D", home / "data", *arguments], stdout=log,
                                      stderr=log, cwd=home, check=False)  # fmt: skip
            if done.returncode:
                raise RuntimeError((home / "log").read_text())

        # An order of letters as on a user's server, which is not that of their codes.
        run("initdb", "-U", "crmlab", "--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu",
            "--icu-locale=en", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")  # fmt: skip
        options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c timezone=Asia/Shanghai"
        run("pg_ctl", "start", "-w", "-s", "-o", options, "-l", home / "server.log")
        try:
            yield f"postgres://crmlab:s3cret-of-crmlab@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-s", "-m", "immediate")


@contextlib.contextmanager
def spark_session():
    """Yield a Spark session on a cluster of two workers, each with an executor process of its own."""
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        missing("No Spark", "make spark")
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        missing("No Java, which Spark needs", "apt-get install openjdk-17-jre-headless")
    settings = {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.default.parallelism": "2",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        # Begin when both executors are there.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        # Hundreds of small queries: compiling them would take longer than running them.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    with tempfile.TemporaryDirectory(prefix="crmlab-spark-") as folder:
        settings["spark.sql.warehouse.dir"] = folder
        builder = SparkSession.builder.appName("crmlab tests")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        try:
            yield session
        finally:
            gateway = session.sparkContext._gateway
            session.stop()
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait(timeout=60)


def connection(name, request):
    """Return an Ibis connection to an engine of this name; servers are started once, by the fixtures."""
    if name == "postgres":
        return ibis.connect(request.getfixturevalue("postgres_url"))
    if name == "pyspark":
        return ibis.pyspark.connect(request.getfixturevalue("spark"))
    return getattr(ibis, name).connect()


def put(connection, name, frame, folder):
    """Write a frame to an engine and return the table there."""
    if connection.name == "polars":
        return connection.create_table(name, pl.from_pandas(frame))
    if connection.name == "pyspark":
        # In several files, so that no executor has all rows.
        (folder / name).mkdir()
        for part in range(3):
            frame.iloc[part::3].to_parquet(folder / name / f"{part}.parquet", index=False, coerce_timestamps="us")
        return connection.read_parquet(str(folder / name), table_name=name)
    return connection.create_table(name, frame, overwrite=True)
