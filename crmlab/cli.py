"""The `crmlab` command."""

import contextlib
import json
import shutil
import signal
import sys
import threading

import click

import crmlab

_MANIFEST = "reports/workbook.toml"


def main():
    """Run the command line of this process."""
    cli(prog_name="crmlab")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(crmlab.__version__, prog_name="crmlab")
def cli():
    """Turn research notebooks on customers into reports.

    \b
    Examples:
      crmlab build reports/workbook.toml         build what changed, write reports/site/index.html
      crmlab describe notebooks/06_customer_lifetime_value.ipynb
                                                 which parameters does it take?
      crmlab run notebooks/06_customer_lifetime_value.ipynb --set dataset=cdnow
                                                 one report, without a manifest
      crmlab check orders.csv                    can this file be analysed?
    """


@cli.command()
@click.argument("manifest", default=_MANIFEST)
@click.option("--out", metavar="DIR", help="Folder of the site. [default: site, beside the manifest]")
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Reports at a time. [default: one a processor]")
@click.option("--force", is_flag=True, help="Build unchanged reports too, for instance when a database has new rows.")
@click.option("--only", metavar="PATTERN", help="Build only reports named like this, such as 'retention*'.")
@click.option("--index", type=click.IntRange(min=0), help="Build only report number N of `crmlab list`, from 0 on.")
@click.option("--code", is_flag=True, help="Put the code into the pages, folded.")
@click.option("--executor", metavar="ADDRESS", default="local", help="Run on a Dask cluster: dask://host:8786.")
def build(manifest, out, jobs, force, only, index, code, executor):
    """Build the reports of MANIFEST (default: reports/workbook.toml) that changed.

    All parameters of all reports are checked before anything runs. A report that fails keeps its last good page; the
    index says so. A build that was stopped goes on where it was: the next one builds only what is missing. The last
    line printed is the path of the index page. With --index no index page is written, so that many machines can each
    build one report of a folder at the same time; a last `crmlab build` writes it.

    \b
    Exit code: 0 all good, 1 some report failed, 2 manifest or parameters wrong, 3 another build is running,
    130 stopped by Ctrl-C, 143 stopped by SIGTERM.

    \b
    Examples:
      crmlab build
      crmlab build reports/workbook.toml --only 'churn*' --force
      crmlab build reports/fast.toml --out /srv/www/reports --jobs 4
      crmlab build reports/workbook.toml --executor dask://scheduler:8786
    """
    with _plain_errors(), _interruptible():
        from pathlib import Path

        from crmlab.report.site import build

        options = {"index": index, "code": code, "executor": executor}
        results = build(manifest, out, jobs, force, only, _progress(sys.stderr), **options)
        folder = str(out or Path(manifest).parent / "site").rstrip("/")
        click.echo(f"{folder}/index.html" if index is None else f"{folder}/{results[0]['slug']}/index.html")
    _exit_by(results)


@cli.command()
@click.argument("notebook")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A parameter; may be given several times.")
@click.option("--out", metavar="DIR", default="site", show_default=True, help="Folder that gets the report's folder.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    help="Time for the whole report.",
)
@click.option("--secret", metavar="NAME", multiple=True, help="A parameter whose value is shown nowhere; repeatable.")
@click.option("--code", is_flag=True, help="Put the code into the page, folded.")
def run(notebook, settings, out, timeout, secret, code):
    """Run NOTEBOOK with the given parameters into one report.

    Values are read by the types that the notebook declares: lists as a,b,c or JSON, dates as 2024-01-31, none for no
    value. `crmlab describe NOTEBOOK` lists the parameters. The last line printed is the path of the page.

    \b
    Exit code: 0 good, 1 the report failed, 2 parameters wrong, 3 a build works in the folder,
    130 stopped by Ctrl-C, 143 stopped by SIGTERM.

    \b
    Examples:
      crmlab run notebooks/06_customer_lifetime_value.ipynb
      crmlab run notebooks/06_customer_lifetime_value.ipynb --set horizon=52 --set dataset=orders.csv
    """
    with _plain_errors(), _interruptible():
        from crmlab.report.site import run_once

        result = run_once(notebook, settings, out, timeout, _progress(sys.stderr), secret=secret, code=code)
        if result["status"] == "ok":
            click.echo(f"{out.rstrip('/')}/{result['slug']}/index.html")
    _exit_by([result])


@cli.command("list")
@click.argument("manifest", default=_MANIFEST)
@click.option("--out", metavar="DIR", help="Folder of the site. [default: site, beside the manifest]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
def list_(manifest, out, as_json):
    """List the reports of MANIFEST (default: reports/workbook.toml), whether they are up to date, and why not.

    \b
    Examples:
      crmlab list
      crmlab list reports/fast.toml --json
    """
    with _plain_errors():
        from crmlab.report.site import states

        found = states(manifest, out)
        if as_json:
            rows = [
                {
                    "index": index,
                    "name": run.slug,
                    "title": run.title,
                    "state": state,
                    "why": why,
                    "notebook": str(run.notebook),
                    "parameters": run.shown,
                }
                for index, (run, state, why) in enumerate(found)
            ]
            click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        else:
            _echo_rows([(run.slug, state, run.title, why) for run, state, why in found])


@cli.command()
@click.argument("site", metavar="[DIR|MANIFEST]", default=_MANIFEST)
@click.option("--history", is_flag=True, help="Earlier reports too, as far as the site keeps them.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
def results(site, history, form):
    """List the key figures of all reports that were built, as one table.

    DIR is the folder of a site; of a MANIFEST (default: reports/workbook.toml) it is the folder site beside it.

    \b
    Examples:
      crmlab results
      crmlab results /srv/www/reports --history --csv > figures.csv
    """
    with _plain_errors():
        from crmlab.report import results
        from crmlab.report.page import visible
        from crmlab.report.record import in_words, to_csv

        table = results(site, history)
        if form == "json":
            click.echo(table.to_json(orient="records", date_format="iso", date_unit="s", force_ascii=False, indent=1))
        elif form == "csv":
            click.echo(to_csv(table), nl=False)
        else:
            rows = [in_words([row.value, row.low, row.high]) for row in table.itertuples()]
            shown = table.assign(
                value=[row[0] for row in rows],
                low=["" if missing else row[1] for row, missing in zip(rows, table["low"].isna(), strict=True)],
                high=["" if missing else row[2] for row, missing in zip(rows, table["high"].isna(), strict=True)],
                started=table["started"].dt.strftime("%Y-%m-%d %H:%M"),
            ).drop(columns="parameters")
            _echo_rows([list(shown.columns), *shown.astype(str).map(visible).values.tolist()])


@cli.command()
@click.argument("notebook")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
def describe(notebook, as_json):
    """List the parameters of NOTEBOOK: name, type or range, default, unit and meaning.

    \b
    Examples:
      crmlab describe notebooks/06_customer_lifetime_value.ipynb
      crmlab describe notebooks/06_customer_lifetime_value.ipynb --json
    """
    with _plain_errors():
        from crmlab.data.masking import mask
        from crmlab.report.parameters import as_json as written
        from crmlab.report.parameters import read_parameters

        parameters = read_parameters(notebook)
        if as_json:
            click.echo(json.dumps([written(parameter) for parameter in parameters], indent=1, ensure_ascii=False))
        elif not parameters:
            click.echo(f"{notebook} has no parameters.")
        else:
            rows = [(p.name, p.annotation, repr(mask(p.default)), p.description) for p in parameters]
            _echo_rows([("name", "type", "default", "unit, meaning"), *rows])


@cli.command()
@click.argument("file")
@click.option("--customer-id", metavar="COLUMN", help="Column with the customer. [default: recognised by its name]")
@click.option("--date", metavar="COLUMN", help="Column with the date.")
@click.option("--amount", metavar="COLUMN", help="Column with the amount.")
@click.option("--encoding", help="Encoding of the file, such as gb18030.")
@click.option("--date-format", metavar="FORMAT", help="How dates are written, such as %d.%m.%Y.")
@click.option("--decimal", type=click.Choice([".", ","]), help="Decimal sign of the numbers.")
@click.option("--table", help="Table, when FILE is the address of a database.")
def check(file, **options):
    """Check whether FILE can be analysed, and say what to mend.

    \b
    Examples:
      crmlab check orders.csv
      crmlab check orders.csv --customer-id Kunde --date Datum --amount Betrag --date-format %d.%m.%Y
    """
    with _plain_errors():
        from crmlab import data

        result = data.check(file, **{name: value for name, value in options.items() if value is not None})
        click.echo(result.text)
    sys.exit(result.exit_code)


@cli.group()
def data():
    """Data sets to work with.

    \b
    Examples:
      crmlab data list
      crmlab data get online_retail --to data/cache
    """


@data.command("list")
def data_list():
    """List the data sets: name, where they are, real or not, rows, title."""
    with _plain_errors():
        from crmlab import data

        columns = ["source", "reality", "rows", "title"]
        known = data.catalogue()[columns].reset_index().astype(object)
        _echo_rows(known.where(known.notna(), "").astype(str).values.tolist())


@data.command("get")
@click.argument("name")
@click.option("--to", metavar="DIR", help="Folder for the files. [default: the folder of downloaded data]")
def data_get(name, to):
    """Download the data set NAME and print where it is."""
    with _plain_errors():
        from crmlab import data

        click.echo(data.fetch(name, to))


@cli.group()
def warehouse():
    """Keep customer tables in a folder that forgets nothing.

    \b
    Examples:
      crmlab warehouse init shop
      crmlab warehouse load shop orders.csv --table orders
      crmlab warehouse query shop "SELECT country, sum(amount) FROM orders GROUP BY country"
      crmlab run notebooks/02_five_questions.ipynb --set dataset=warehouse:shop
    """


@warehouse.command("init")
@click.argument("folder")
def warehouse_init(folder):
    """Make an empty warehouse in FOLDER.

    \b
    Example:
      crmlab warehouse init shop
    """
    with _plain_errors():
        from crmlab import data

        click.echo(data.Warehouse.create(folder).path)


@warehouse.command("load")
@click.argument("folder")
@click.argument("file")
@click.option("--table", required=True, metavar="NAME", help="Which customer table it is, such as orders.")
@click.option("--valid-from", metavar="DATE", help="From which day on it is true. [default: today]")
@click.option("--as-of", metavar="DATE", help="Day of the check; later dates are set aside. [default: today]")
@click.option("--column", "columns", metavar="NAME=OWN", multiple=True, help="What FILE calls a column; repeatable.")
@click.option("--database-table", metavar="NAME", help="Which table of the database, where FILE is the address of one.")
@click.option("--encoding", help="Encoding of the file, such as gb18030.")
@click.option("--date-format", metavar="FORMAT", help="How dates are written, such as %d.%m.%Y.")
@click.option("--decimal", type=click.Choice([".", ","]), help="Decimal sign of the numbers.")
def warehouse_load(folder, file, table, valid_from, as_of, columns, **options):
    """Check FILE and add what is new to the warehouse in FOLDER; the same content twice changes nothing.

    Tables are customers, orders, service_cases, campaign_responses, interactions and survey. FILE is what `crmlab
    check` takes: CSV, Parquet, a folder of Parquet files, or the address of a database.

    \b
    Exit code: 0 every row is in, 1 some were set aside, 2 nothing could be loaded.

    \b
    Examples:
      crmlab warehouse load shop orders.csv --table orders
      crmlab warehouse load shop crm.csv --table customers --valid-from 2024-01-31 --column customer_id=Kunde
      crmlab warehouse load shop postgres://ann@host/erp --database-table sales --table orders
    """
    with _plain_errors():
        from crmlab import data

        options = {name: value for name, value in options.items() if value is not None} | _own_names(columns)
        try:
            line = data.Warehouse(folder).load(file, table, valid_from, as_of, **options)
        except data.DataError as error:
            raise data.DataError(str(error).replace("load(…, table=…)", "--database-table NAME")) from None
        if line["known"] is not None:
            click.echo(f"{line['source']} has the content of load {line['known']}: nothing to add.")
            return
        failed = line["set_aside"] - line["repeated"]
        counts = f"{line['rows']:,} rows, {line['kept']:,} kept, {failed:,} set aside"
        known = f", {line['repeated']:,} known from earlier loads" if line["repeated"] else ""
        click.echo(f"load {line['load']}: {table} of {line['source']}: {counts}{known}")
        if failed:
            click.echo(f"Why: {folder}/load-{line['load']:06d}/failures.csv")
    sys.exit(1 if failed else 0)


@warehouse.command("check")
@click.argument("folder")
def warehouse_check(folder):
    """Show the load log of FOLDER and check that its files are whole and its tables fit together.

    \b
    Exit code: 0 all good, 1 something to know, 2 damaged.

    \b
    Example:
      crmlab warehouse check shop
    """
    with _plain_errors():
        from crmlab import data

        kept = data.Warehouse(folder)
        log = kept.log().drop(columns="sha256").astype(object)
        _echo_rows([list(log.columns), *log.where(log.notna(), "").astype(str).values.tolist()])
        found = kept.check().query("rows > 0")
        for fault in found.itertuples():
            click.echo(f"{fault.severity}: {fault.table}: {fault.check}: {fault.rows:,} are not. {fault.meaning}")
    sys.exit(2 if (found["severity"] == "error").any() else int(len(found) > 0))


@warehouse.command("query")
@click.argument("folder")
@click.argument("sql", required=False)
@click.option("--as-of", metavar="DATE", help="Answer as of this day. [default: with all that was loaded]")
def warehouse_query(folder, sql, as_of):
    """Answer one SELECT over the warehouse in FOLDER, as CSV; without SQL, list its tables.

    Beside the tables that were loaded there are dim_customer (every version of a customer, with the days between which
    it was valid), dim_product and dim_date, and of each table of events its facts, such as fact_orders, whose
    customer_key is that of the version valid on the day of the event.

    \b
    Examples:
      crmlab warehouse query shop
      crmlab warehouse query shop "DESCRIBE fact_orders"
      crmlab warehouse query shop "SELECT count(*) FROM customers" --as-of 2024-01-31
    """
    with _plain_errors():
        from crmlab import data

        kept = data.Warehouse(folder)
        if sql is None:
            click.echo("\n".join(kept.tables()))
        else:
            click.echo(kept.query(sql, as_of).to_csv(index=False), nl=False)


@cli.command()
@click.argument("candidates")
@click.option(
    "--campaign", required=True, metavar="NAME", help="Letters, digits, - and _; also draws the control group."
)
@click.option("--out", metavar="DIR", default=".", show_default=True, help="Folder of the list.")
@click.option("--control", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share not to contact.")
@click.option("--as-of", metavar="DATE", help="Day of the list. [default: today]")
@click.option("--consent", metavar="COLUMN", default="consent", show_default=True, help="Says yes or no.")
@click.option("--no-consent-needed", is_flag=True, help="Do not ask for consent.")
@click.option("--opt-outs", metavar="FILE", help="Table with customer_id: who does not want to be contacted.")
@click.option("--service-cases", metavar="FILE", help="Table with customer_id, opened, closed: open complaints.")
@click.option("--contacted", metavar="FILE", help="Table with customer_id, date: earlier contacts.")
@click.option("--cap", type=click.IntRange(min=1), default=1, show_default=True, help="Contacts in --cap-days at most.")
@click.option("--cap-days", type=click.IntRange(min=1), default=30, show_default=True, help="Days of the cap.")
@click.option("--open-list", "open_lists", metavar="FILE", multiple=True, help="Earlier contact list; repeatable.")
def contacts(candidates, campaign, out, control, as_of, consent, no_consent_needed, opt_outs, **options):
    """Write the contact list of a campaign from the table CANDIDATES; nothing is sent.

    Prints what became of every candidate; the last line is the path of the list.

    \b
    Example:
      crmlab contacts candidates.csv --campaign spring --opt-outs optouts.csv --contacted contacts.csv
    """
    with _plain_errors():
        from crmlab import market

        found = market.contact_list(
            candidates,
            campaign,
            out,
            control_share=control,
            as_of=as_of,
            consent=None if no_consent_needed else consent,
            opt_outs=opt_outs or (),
            **options,
        )
        _echo_rows([(name, f"{count:,}") for name, count in found.counts.items() if count])
        click.echo(found.path)


@cli.command()
@click.argument("contacts")
@click.argument("responses")
@click.option("--out", metavar="FILE", help="CSV file for the list with its responses, one row a customer.")
@click.option(
    "--column", "columns", metavar="NAME=OWN", multiple=True, help="What RESPONSES calls a column; repeatable."
)
def responses(contacts, responses, out, columns):
    """Match the file RESPONSES with the contact list CONTACTS, and say what the campaign changed.

    \b
    Exit code: 0 every row counts, 1 some were set aside, 2 nothing could be read.

    \b
    Example:
      crmlab responses contacts_spring_2024-03-01.csv orders.csv --column date=ordered --out spring.csv
    """
    with _plain_errors():
        from crmlab import market
        from crmlab.market.contacts import write_table

        found = market.read_responses(contacts, responses, **_own_names(columns))
        _echo_rows([("rows of the file", "")] + [(name, f"{n:,}") for name, n in found.counts.items() if n])
        if out:
            write_table(found.table, out)
        if found.table["arm"].nunique() == 2 and found.table["responded"].nunique() == 2:
            lift = market.effect(found.table, "responded", "arm", control="control").differences.loc["contact"]
            points = [f"{100 * lift[name]:.2f}" for name in ("difference", "low", "high")]
            click.echo("Responded, contacted minus control: {} points, 95 % interval {} to {}.".format(*points))
    sys.exit(1 if len(found.aside) else 0)


def _own_names(columns):
    """What a file calls the columns, from NAME=OWN."""
    from crmlab.data import DataError

    if wrong := [column for column in columns if "=" not in column]:
        raise DataError(f"--column {wrong[0]!r} must be NAME=OWN, such as customer_id=Kunde.")
    return dict(column.split("=", 1) for column in columns)


@contextlib.contextmanager
def _plain_errors():
    """Say what is wrong in words and leave with 2; a traceback is for programmers."""
    try:
        yield
    except BrokenPipeError:
        # A reader such as `head` has had enough; click leaves quietly.
        raise
    except OSError as error:
        _give_up(f"{error.filename}: {error.strerror}." if error.filename else str(error))
    except ValueError as error:
        # ManifestError, ParameterError and DataError; importing them here would make every command slow.
        if type(error).__module__.partition(".")[0] != "crmlab":
            raise
        _give_up(str(error), getattr(error, "exit_code", 2))


def _give_up(message, code=2):
    from crmlab.data.masking import mask

    click.echo(mask(message), err=True)
    sys.exit(code)


@contextlib.contextmanager
def _interruptible():
    """Leave with 130 on Ctrl-C and with 143 on SIGTERM, after everything that runs has been stopped."""
    code = 130

    def interrupt(signum, frame):
        nonlocal code
        code = 143
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted; finished reports are kept, the next build makes the others.", err=True)
        sys.exit(code)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit_by(results):
    sys.exit(any(result["status"] != "ok" for result in results))


def _progress(stream):
    """Return a listener that writes a line a report; on a terminal, running reports have a line that changes."""
    lock, running, live, overall = threading.Lock(), {}, stream.isatty(), ""

    def event(name, state, note=""):
        nonlocal overall
        with lock:
            if live:
                stream.write("\x1b[1A\x1b[2K" * (len(running) + bool(overall)))
            if state == "progress":
                overall = note
            elif state == "warning":
                stream.write(f"{note}\n")
            elif state == "running":
                if live:
                    running[name] = f"{name}: {note or 'starting'}"
                elif not note:
                    stream.write(f"{name}: running\n")
            else:
                running.pop(name, None)
                so_far = f" – {overall}" if overall and not live else ""
                stream.write(f"{name}: {state}{f' ({note})' if note else ''}{so_far}\n")
            if live:
                width = shutil.get_terminal_size().columns - 1
                lines = [*running.values(), *([overall] if overall else [])]
                stream.write("".join(f"{line[:width]}\n" for line in lines))
            stream.flush()

    return event


def _echo_rows(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
