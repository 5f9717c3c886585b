"""Every number in data/published is computed here and must be reproduced within its tolerance."""

import pytest

from crmlab import clv, data
from crmlab.data import DataError


@pytest.fixture(scope="module")
def computed(cdnow_summary):
    bg, mbg = clv.BGNBD().fit(cdnow_summary), clv.MBGNBD().fit(cdnow_summary)
    gg = clv.GammaGamma().fit(cdnow_summary)
    sample = "cdnow_sample"
    scores = clv.compare([bg, mbg], cdnow_summary).rename({"BG/NBD": "bgnbd", "MBG/NBD": "mbgnbd"})
    numbers = {
        f"{sample}.counts.customers": len(cdnow_summary),
        f"{sample}.counts.repeat_purchases": cdnow_summary["frequency"].sum(),
        f"{sample}.counts.one_time_buyers": (cdnow_summary["frequency"] == 0).sum(),
        f"{sample}.counts.holdout_purchases": cdnow_summary["frequency_holdout"].sum(),
        f"{sample}.bgnbd.printed.llf": bg.llf,
        f"{sample}.bgnbd.exact.llf": bg.llf,
        f"{sample}.mbgnbd.llf": mbg.llf,
        f"{sample}.gammagamma.exact.llf": gg.llf,
    }
    fits = {"bgnbd": bg, "bgnbd.exact": bg, "mbgnbd": mbg, "gammagamma": gg, "gammagamma.exact": gg}
    for group, result in fits.items():
        numbers |= {f"{sample}.{group}.{name}": value for name, value in result.params.items()}
    numbers |= {f"{sample}.bgnbd.se.{name}": value for name, value in bg.bse.items()}
    for name, result in {"bgnbd": bg, "mbgnbd": mbg}.items():
        numbers[f"{sample}.holdout.{name}"] = scores.loc[name, "predicted"]
        numbers[f"{sample}.holdout.mae.{name}"] = scores.loc[name, "mae"]
        numbers[f"{sample}.holdout.rmse.{name}"] = scores.loc[name, "rmse"]
        numbers[f"{sample}.p_alive.{name}"] = result.predict(cdnow_summary, horizon=39)["p_alive"].mean()
    spend = gg.model.expected_spend(gg.params, [0, 2], [0.0, 40.0])
    numbers[f"{sample}.gammagamma.spend.of_nobody_in_particular"] = spend[0]
    numbers[f"{sample}.gammagamma.spend.of_two_purchases_averaging_40"] = spend[1]
    groups = clv.by_frequency(bg, cdnow_summary)["expected"]
    numbers |= {f"{sample}.by_frequency.x{x.replace('+', 'plus')}": value for x, value in groups.items()}
    one, many = clv.BGNBD().loglike((0.25, 4, 0.8, 2.5), [0, 200], [0, 38], [40, 40])
    numbers |= {"bgnbd.loglike.once_in_40": one, "bgnbd.loglike.two_hundred_times": many}
    master = clv.states(clv.summarize("cdnow", calibration_end="1997-09-30"))
    for name, model in {"bgnbd": clv.BGNBD(), "mbgnbd": clv.MBGNBD()}.items():
        result = model.fit(master)
        numbers |= {f"cdnow.{name}.{k}": v for k, v in result.params.items()}
        numbers[f"cdnow.llf.{name}"] = result.llf
    return numbers


@pytest.mark.parametrize("target", data.published("clv").index)
def test_published_number_is_reproduced(target, computed):
    row = data.compare_published("clv", {target: computed[target]}).iloc[0]
    assert row["verdict"] == "reproduced", f"published {row['published']}, computed {row['computed']}: {row['source']}"


def test_every_target_says_what_it_is_and_where_it_was_printed():
    table = data.published("clv")
    assert (table["what"].str.len() > 10).all()
    assert (table["source"].str.len() > 10).all()


def test_a_number_off_by_more_than_its_tolerance_differs():
    table = data.compare_published("clv", {"cdnow_sample.bgnbd.r": 0.2436})
    assert table["verdict"].item() == "differs"


def test_unknown_rooms_and_targets_are_refused():
    with pytest.raises(DataError, match=r"nothing\.toml does not exist"):
        data.published("nothing")
    with pytest.raises(DataError, match="no target named x"):
        data.compare_published("clv", {"x": 1})
