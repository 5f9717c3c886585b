"""The computation behind each verdict of the ledger, by name."""

from crmlab.cases import arithmetic, firms, shops

CHECKS = {
    check.__name__: check
    for check in (
        arithmetic.cost_ratio,
        arithmetic.referrals,
        arithmetic.influenced,
        arithmetic.lift_of_points,
        arithmetic.lift_of_fewer_defections,
        arithmetic.shoppers_fit,
        arithmetic.retail_share_fits,
        arithmetic.hours_of_a_day,
        arithmetic.issue_and_date,
        firms.dell_loss,
        firms.dell_growth,
        firms.dell_web,
        firms.adopters,
        firms.exponential_growth,
        firms.failure_rates_agree,
        shops.top_fifth_is_eighty,
        shops.top_fifth_brings_most,
        shops.repeat_orders_at_amazon,
        shops.repeat_orders_against_retention,
    )
}
"""Name of a computation in the ledger to the function that computes it: its numbers, and the verdict by its rule."""
