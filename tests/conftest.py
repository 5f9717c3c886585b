import pytest


@pytest.fixture(scope="session")
def cdnow_summary():
    """The CDNOW sample as the literature calibrates it: weeks, to 1997-09-30, the rest held out."""
    from crmlab import clv

    return clv.summarize("cdnow_sample", calibration_end="1997-09-30").order_by("customer_id").to_pandas()
