"""Every number in data/published is computed here and must be reproduced within its tolerance."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest

from crmlab import clv, data
from crmlab.data import DataError
from tests import test_clv_contract, test_clv_discrete


def purchases_of(result, x, t_x, T, horizon=52.0, annual_discount=0.0):
    """Predictions for customers given by hand."""
    frame = pd.DataFrame({"frequency": x, "recency": t_x, "T": T})
    return result.predict(frame, horizon=horizon, annual_discount=annual_discount)


def pareto_numbers(summary):
    """What the literature has of Pareto/NBD and its comparisons on the CDNOW sample."""
    sample, bg, fit = "cdnow_sample", clv.BGNBD().fit(summary), clv.ParetoNBD().fit(summary)
    nbd = clv.NBD().fit(summary)
    regular = clv.BGCNBD().fit(clv.summarize(sample, calibration_end="1997-09-30", timing=True))
    scores = clv.compare([fit], summary)
    numbers = {f"{sample}.paretonbd.{k}": v for k, v in fit.params.items()}
    numbers |= {f"{sample}.paretonbd.exact.{k}": v for k, v in fit.params.items()}
    numbers |= {f"{sample}.paretonbd.exact.llf": fit.llf, f"{sample}.nbd.likelihood.llf": nbd.llf}
    numbers |= {f"{sample}.paretonbd.se.{k}": v for k, v in fit.bse.items()}
    numbers |= {f"{sample}.nbd.{k}": v for k, v in nbd.params.items()}
    numbers |= {f"{sample}.bgcnbd.k": regular.model.k, f"{sample}.bgcnbd.llf": regular.llf}
    for name in ("predicted", "mae", "rmse"):
        numbers[f"{sample}.holdout.paretonbd.{name}"] = scores.loc["Pareto/NBD", name]
    numbers[f"{sample}.holdout.own_rate.predicted"] = scores.loc["own rate", "predicted"]
    numbers[f"{sample}.p_alive.paretonbd.mean"] = fit.predict(summary)["p_alive"].mean()
    groups = clv.by_frequency(fit, summary)["expected"]
    numbers |= {f"{sample}.by_frequency.paretonbd.x{x.replace('+', 'plus')}": value for x, value in groups.items()}
    for name, result in {"bgnbd": bg, "paretonbd": fit}.items():
        customer = purchases_of(result, [26], [216 / 7], [31.0]).iloc[0]
        numbers[f"{sample}.customer_1516.{name}"] = customer["expected_purchases"]
        numbers[f"{sample}.customer_1516.{name}_alive"] = customer["p_alive"]
        numbers[f"{sample}.newcomer.{name}"] = result.predict(clv.newcomer())["expected_purchases"].item()
        rising = purchases_of(result, [10, 15, 20, 25], 20.0, 39.0)["expected_purchases"]
        group = f"{sample}.increasing_frequency" + (".paretonbd" if name == "paretonbd" else "")
        numbers |= {f"{group}.x{x}": value for x, value in zip([10, 15, 20, 25], rising, strict=True)}
    other = dataclasses.replace(fit, work=fit.model.work((0.5629966, 12.559037, 0.4081095, 10.5148048)))
    a_year = np.expm1(0.0027 * 365.25 / 7)
    dert = purchases_of(other, [7, 1, 2, 5, 10], [35, 30, 30, 30, 30], 77.86, np.inf, a_year)
    names = ["x7_t35_T78", "x1_t30", "x2_t30", "x5_t30", "x10_t30"]
    return numbers | {f"paretonbd.dert.{k}": v for k, v in zip(names, dert["discounted_purchases"], strict=True)}


def apparel_numbers():
    """CLVTools' apparel data, where there is a copy: two dichotomies as covariates of rate and dropout."""
    import rdata

    folder = data.data_folder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = rdata.read_rda(folder / "apparelTrans.rda")["apparelTrans"]
        covariates = rdata.read_rda(folder / "apparelStaticCov.rda")["apparelStaticCov"]
    log = log.assign(date=pd.to_datetime(log["Date"], unit="D")).rename(
        columns={"Id": "customer_id", "Price": "amount"}
    )
    end = log["date"].min() + pd.Timedelta(weeks=104)
    summary = clv.summarize(log[["customer_id", "date", "amount"]], "W", end.date()).to_pandas()
    summary = summary.merge(covariates.rename(columns={"Id": "customer_id"}), on="customer_id")
    names = {"paretonbd": clv.ParetoNBD(), "bgnbd": clv.BGNBD(), "mbgnbd": clv.MBGNBD()}
    plain = {name: model.fit(summary) for name, model in names.items()}
    both = "~ Gender + Channel"
    static = {name: names[name].fit(summary, rate=both, dropout=both) for name in ("paretonbd", "mbgnbd")}
    numbers = {f"apparel.llf.{name}": plain[name].llf for name in ("paretonbd", "bgnbd")}
    numbers |= {f"apparel.static.llf.{name}": result.llf for name, result in static.items()}
    numbers["apparel.static.llf.lr_statistic"] = clv.lr_test(plain["paretonbd"], static["paretonbd"])["statistic"]
    for name, value in static["paretonbd"].params.iloc[4:].items():
        numbers[f"apparel.paretonbd.static.{name.lower().replace(': ', '_')}"] = value
    return numbers


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
    for name, result in {"bgnbd": bg, "paretonbd": clv.ParetoNBD().fit(cdnow_summary)}.items():
        weeks = clv.tracking(result, sample, "1997-09-30")
        expected, actual = f"{sample}.tracking.{name}", f"{sample}.tracking.actual"
        for week in range(20, 26):
            numbers[f"{expected}.week{week}"] = weeks.loc[week, "expected"]
            numbers[f"{actual}.week{week}"] = weeks.loc[week, "actual"]
        numbers[f"{expected}.cumulative.until_week25"] = weeks.loc[25, "expected_cumulative"]
        numbers[f"{actual}.until_week25"] = weeks.loc[25, "actual_cumulative"]
    one, many = clv.BGNBD().loglike((0.25, 4, 0.8, 2.5), [0, 200], [0, 38], [40, 40])
    numbers |= {"bgnbd.loglike.once_in_40": one, "bgnbd.loglike.two_hundred_times": many}
    master = clv.states(clv.summarize("cdnow", calibration_end="1997-09-30"))
    for name, model in {"bgnbd": clv.BGNBD(), "mbgnbd": clv.MBGNBD(), "paretonbd": clv.ParetoNBD()}.items():
        result = model.fit(master)
        numbers |= {f"cdnow.{name}.{k}": v for k, v in result.params.items()}
        key = "cdnow.llf.paretonbd.llf" if name == "paretonbd" else f"cdnow.llf.{name}"
        numbers[key] = result.llf
        numbers[f"cdnow_sample.78weeks.{name}"] = model.fit(clv.summarize("cdnow_sample")).llf
    numbers |= pareto_numbers(cdnow_summary)
    if (data.data_folder() / "apparelTrans.rda").is_file():
        numbers |= apparel_numbers()
    return numbers | test_clv_contract.published_numbers() | test_clv_discrete.published_numbers()


@pytest.mark.parametrize("target", data.published("clv").index)
def test_published_number_is_reproduced(target, computed):
    if target.startswith("apparel.") and target not in computed:
        pytest.skip("needs apparelTrans.rda and apparelStaticCov.rda of the R package CLVTools in CRMLAB_DATA_DIR")
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
