"""Downloads that go on where they stopped, and the conversions of originals into tables."""

import csv
import shutil
from pathlib import Path

from crmlab.data.errors import DataError


def resume(url, output_file, pooch, part):
    """Download `url` into `part`, continuing what an interrupted run left there, then hand it to pooch.

    Parameters
    ----------
    url : str
        Address of the file.
    output_file : str or file-like
        Where pooch wants the finished file.
    pooch : object
        Unused; pooch passes its registry to every downloader.
    part : pathlib.Path
        The partial file; it outlives an interruption and is removed when the download is whole.

    Raises
    ------
    requests.RequestException
        When the server cannot be reached, refuses, or closes early (the part is kept for the next run).
    """
    import requests
    from tqdm import tqdm

    done = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        if answer.status_code == 416:  # the part is already whole, or not a part of this file
            part.unlink()
            resume(url, output_file, pooch, part)
            return
        answer.raise_for_status()
        done = done if answer.status_code == 206 else 0
        left = answer.headers.get("Content-Length")
        total = done + int(left) if left else None
        with (
            part.open("ab" if done else "wb") as sink,
            tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=Path(url).name) as bar,
        ):
            for block in answer.iter_content(1 << 16):
                bar.update(sink.write(block))
    if total is not None and part.stat().st_size < total:
        raise requests.ConnectionError(f"the connection closed after {part.stat().st_size:,} of {total:,} bytes")
    if hasattr(output_file, "write"):
        with part.open("rb") as source:
            shutil.copyfileobj(source, output_file)
    else:
        shutil.copyfile(part, output_file)
    part.unlink()


def whole(write, target):
    """Write a file beside its target and move it there when it is complete.

    Parameters
    ----------
    write : callable
        Writes the path that it is given.
    target : pathlib.Path
        Where the complete file belongs.
    """
    beside = target.with_name(f"{target.name}.new")
    try:
        write(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def rda_to_parquet(source, target):
    """Convert the one data frame of an R data file into Parquet.

    Parameters
    ----------
    source, target : pathlib.Path
        The .rda file and the Parquet file to write.

    Raises
    ------
    DataError
        When the package `rdata`, which reads R files, is not installed.
    """
    import numpy as np

    try:
        import rdata
        from rdata.conversion import DEFAULT_CLASS_MAP
    except ImportError:
        raise DataError("Reading R files needs the package rdata: pip install rdata") from None
    dates = {"Date": lambda days, _attributes: np.asarray(days, dtype="datetime64[D]").astype("datetime64[s]")}
    (frame,) = rdata.read_rda(source, constructor_dict={**DEFAULT_CLASS_MAP, **dates}).values()
    whole(frame.to_parquet, target)


def xlsx_to_csv(source, target):
    """Convert the first sheet of a workbook into CSV.

    Parameters
    ----------
    source, target : pathlib.Path
        The .xlsx file and the CSV file to write.

    Raises
    ------
    DataError
        When the package `openpyxl`, which reads Excel workbooks, is not installed.
    """
    import pandas as pd

    try:
        frame = pd.read_excel(source)
    except ImportError:
        raise DataError("Reading Excel workbooks needs the package openpyxl: pip install openpyxl") from None
    whole(lambda path: frame.to_csv(path, index=False), target)


def baskets_to_csv(source, target):
    """Convert a file of baskets (one line a basket, items separated by commas) into one row an item.

    Parameters
    ----------
    source, target : pathlib.Path
        The file of baskets and the CSV file to write.
    """

    def write(path):
        with source.open(newline="", encoding="utf-8") as lines, path.open("w", newline="", encoding="utf-8") as sink:
            writer = csv.writer(sink, lineterminator="\n")
            writer.writerow(["transaction", "item"])
            writer.writerows([i, item] for i, basket in enumerate(csv.reader(lines), 1) for item in basket)

    whole(write, target)


CONVERSIONS = {"rda": rda_to_parquet, "xlsx": xlsx_to_csv, "baskets": baskets_to_csv}
