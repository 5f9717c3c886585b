"""What next, to whom, and did it work: cross-selling, timing, campaigns and the feedback loop."""

from crmlab._lazy import attach

_HOMES = {
    "assign_control": "assignment",
    "balance": "experiments",
    "contact_list": "contacts",
    "due": "dates",
    "effect": "experiments",
    "effect_by": "experiments",
    "false_alarms": "peeking",
    "idic": "scorecards",
    "loop": "cycles",
    "month_rule": "dates",
    "next_purchase": "timing",
    "outcomes": "responses",
    "profile_rule": "profiles",
    "read_contacts": "contacts",
    "read_experiment": "experiments",
    "read_responses": "responses",
    "recommend": "recommender",
    "reproduce": "literature",
    "rules": "associations",
    "sample_ratio": "experiments",
    "sample_size": "power",
    "send_on": "dates",
    "sequential": "peeking",
    "standard_options": "options",
    "two_step_rules": "tiers",
    "uplift": "uplifts",
}
__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
