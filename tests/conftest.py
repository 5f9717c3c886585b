import pytest


@pytest.fixture(scope="session")
def cdnow_summary():
    """The CDNOW sample as the literature calibrates it: weeks, to 1997-09-30, the rest held out."""
    from crmlab import clv

    return clv.summarize("cdnow_sample", calibration_end="1997-09-30").order_by("customer_id").to_pandas()


@pytest.fixture(scope="session")
def postgres_url():
    """The address of a PostgreSQL server, with a password."""
    from tests import engines

    with engines.postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def spark():
    """A Spark session with two executors, processes of their own."""
    from tests import engines

    with engines.spark_session() as session:
        yield session
