"""The published numbers of two experiments, computed anew; `crmlab.market.reproduce` collects them."""

from crmlab import data
from crmlab.market.experiments import effect

ARMS = {"No E-Mail": "control", "Mens E-Mail": "mens", "Womens E-Mail": "womens"}


def hillstrom():
    """Return what is published of the e-mail test of 64,000 customers.

    Returns
    -------
    dict
        Target to number.
    """
    table, numbers = data.open_dataset("hillstrom").to_pandas(), {}
    for outcome in ("visit", "conversion", "spend"):
        found = effect(table, outcome, "segment", control="No E-Mail")
        numbers |= {f"hillstrom.{outcome}.{ARMS[arm]}": mean for arm, mean in found.arms["mean"].items()}
        if outcome != "conversion":
            for arm, row in found.differences.iterrows():
                numbers[f"hillstrom.{outcome}_lift.{ARMS[arm]}"] = row["difference"]
                numbers[f"hillstrom.{outcome}_lift.{ARMS[arm]}_se"] = row["se"]
    return numbers


def voter_persuasion():
    """Return what is published of the message to 10,000 voters.

    Returns
    -------
    dict
        Target to number.
    """
    means = effect(data.open_dataset("voter_persuasion"), "MOVED_A", "MESSAGE_A", control=0).arms["mean"]
    return {"voter_persuasion.moved.control": means[0], "voter_persuasion.moved.message": means[1]}
