"""What next, to whom, and did it work: cross-selling, timing, campaigns and the feedback loop."""

from crmlab._lazy import attach

_HOMES = {
    "reproduce": "literature",
}
__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
