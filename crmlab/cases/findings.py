"""What a computation says of a claim."""

from typing import NamedTuple


class Finding(NamedTuple):
    """What a computation says of a claim."""

    verdict: str
    says: str
    rule: str
    numbers: dict
