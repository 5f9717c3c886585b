"""The password of a database is nowhere: not in a report, a warehouse, a message, an exception or what is printed."""

import html
import json
import socket
import traceback
from pathlib import Path
from urllib.parse import quote, urlsplit

import ibis
import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from crmlab import data
from crmlab.cli import cli
from crmlab.data.masking import mask, passwords
from tests.pdftext import pdf_text

SECRET = "tr0ub4dor&3 <\"@/:'密"
WRONG = "wr0ng-h0rse"


def forms(secret):
    """How a text may write it."""
    written = {secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1], html.escape(secret)}
    return written | {
        json.dumps(secret)[1:-1],
        json.dumps(repr(secret)[1:-1])[1:-1],
        json.dumps(html.escape(secret))[1:-1],
    }


def assert_silent(text, *secrets):
    for secret in secrets or (SECRET, WRONG):
        assert not [form for form in forms(secret) if form in text], text


def assert_silent_folder(folder):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert_silent(str(path))
        assert_silent(path.read_bytes().decode("utf-8", errors="replace"))


def everything_said(error):
    """All that can be printed of an exception, with what it came from, even where the printing is suppressed."""
    texts, chain = ["".join(traceback.format_exception(error))], [error]
    while chain:
        one = chain.pop()
        texts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        chain += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(texts)


@pytest.fixture(scope="module")
def address(postgres_url):
    """The address of a database whose user has a password that is hard to hide, and a table of sales."""
    con = ibis.connect(postgres_url)
    with con.con.cursor() as cursor:
        cursor.execute(
            "DROP OWNED BY crmlab_test"
            if con.raw_sql("SELECT 1 FROM pg_user WHERE usename = 'crmlab_test'").fetchone()
            else ""
        )
        cursor.execute("DROP ROLE IF EXISTS crmlab_test")
        cursor.execute("CREATE ROLE crmlab_test LOGIN PASSWORD '" + SECRET.replace("'", "''") + "'")
        cursor.execute("GRANT ALL ON SCHEMA public TO crmlab_test")
    con.con.commit()
    con.disconnect()
    server = urlsplit(postgres_url)
    url = f"postgres://crmlab_test:{quote(SECRET, safe='')}@{server.hostname}:{server.port}/postgres"
    con = ibis.connect(url)
    sales = data.load("cdnow_sample").select("customer_id", "date", "amount").limit(400).to_pandas()
    con.create_table("sales", sales, overwrite=True)
    con.disconnect()
    return url


@pytest.fixture(scope="module")
def failing(address):
    """Addresses that fail, each in its own way, with the table that is asked of them."""
    server = urlsplit(address)
    host = f"{server.hostname}:{server.port}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = taken.getsockname()[1]
    encoded = quote(SECRET, safe="")
    return {
        "wrong password": (f"postgres://crmlab_test:{WRONG}@{host}/postgres", "sales"),
        "wrong password in the query": (f"postgres://{host}/postgres?user=crmlab_test&password={WRONG}", "sales"),
        "nobody listens": (f"postgres://crmlab_test:{encoded}@127.0.0.1:{closed}/postgres", "sales"),
        "a password that is not encoded": (f"postgres://crmlab_test:{SECRET}@{host}/postgres", "sales"),
        "no such table": (address, "nothing"),
        "no table named": (address, None),
        "no such database": (f"{address}x", "sales"),
        "an unknown option": (f"{address}?passwordd={encoded}", "sales"),
        "another kind of database": (f"mysql://crmlab_test:{encoded}@{host}/postgres", "sales"),
        "a cloud": (f"duckdb://md:shop?motherduck_token={WRONG}", "sales"),
        "keywords": (f"host={server.hostname} port={server.port} user=crmlab_test password={WRONG}", None),
        "quoted keywords": ("host=h user=crmlab_test password='tr0ub4dor&3 wr0ng-h0rse'", None),
        "JDBC": (f"jdbc:postgresql://{host}/postgres?user=crmlab_test&password={WRONG}", None),
        "JDBC with semicolons": (f"jdbc:sqlserver://{host};user=crmlab_test;password={WRONG};encrypt=true", None),
        "JDBC of Oracle": (f"jdbc:oracle:thin:crmlab_test/{WRONG}@//{host}/postgres", None),
    }


def test_no_exception_has_the_password_in_it(failing, recwarn):
    for name, (url, table) in failing.items():
        for read in (data.load, data.audit):
            with pytest.raises(data.DataError) as caught:
                read(url, table=table)
            assert_silent(everything_said(caught.value))
            assert "***" in str(caught.value), name


def test_an_error_of_sql_does_not_tell_the_password(address):
    con = data.connect(address)
    for ask in (lambda: con.sql("SELECT nonsense FROM sales"), lambda: con.table("sales").select(x=1 / ibis._.nothing)):
        with pytest.raises(Exception, match="no") as caught:
            ask()
        assert_silent(everything_said(caught.value))
    con.disconnect()


def test_what_comes_of_a_database_does_not_name_the_password(address):
    found = data.audit(address, table="sales")
    log = data.load(address, table="sales")
    checked = data.check(address, table="sales")
    shown = [str(found), repr(found), found._repr_html_(), found.source, str(found.facts), checked.text]
    assert found.rows == 400
    assert_silent("\n".join([*shown, found.findings.to_string(), repr(log), repr(log.get_backend()), ibis.to_sql(log)]))


def test_a_password_in_the_environment_is_enough(address, monkeypatch):
    server = urlsplit(address)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    found = data.audit(f"postgres://crmlab_test@{server.hostname}:{server.port}/postgres", table="sales")
    assert_silent(str(found))
    monkeypatch.setenv("PGPASSWORD", WRONG)
    with pytest.raises(data.DataError) as caught:
        data.load(f"postgres://crmlab_test@{server.hostname}:{server.port}/postgres", table="sales")
    assert_silent(everything_said(caught.value))


@pytest.fixture
def crmlab(tmp_path, monkeypatch):
    """Run the command in an empty folder; the answer is its exit code and all that it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False, prog_name="crmlab")
        return done.exit_code, done.output

    return run


def test_the_command_does_not_print_the_password(address, failing, crmlab, tmp_path):
    url, wrong = address, failing["wrong password"][0]
    codes = []
    for arguments in (
        ["check", url, "--table", "sales"],
        ["check", wrong, "--table", "sales"],
        ["run", url],
        ["run", "absent.ipynb", "--set", url],
        ["describe", url],
        ["build", url],
        ["list", url],
        ["data", "get", url],
        ["warehouse", "check", url],
    ):
        code, said = crmlab(*arguments)
        codes.append(code)
        assert "Traceback" not in said, said
        assert_silent(said)
    assert codes[0] in (0, 1)
    assert all(codes[1:])


def test_a_warehouse_does_not_keep_the_password(address, failing, crmlab, tmp_path):
    said = [crmlab("warehouse", "init", "shop")[1]]
    for name, (url, _table) in failing.items():
        code, told = crmlab("warehouse", "load", "shop", url, "--table", "orders")
        assert code == 2, name
        said.append(told)
    warehouse = data.Warehouse(tmp_path / "shop")
    log = data.load(address, table="sales")
    log = log.mutate(order_id=log.customer_id, product_id=ibis.literal("p"), quantity=ibis.literal(1))
    loaded = warehouse.load(log, "orders")
    said += [str(loaded), repr(loaded), repr(warehouse), crmlab("warehouse", "check", "shop")[1]]
    said.append(crmlab("warehouse", "query", "shop", "SELECT count(*) AS n FROM orders")[1])
    said.append(crmlab("run", "absent.ipynb", "--set", f"dataset={address}", "--out", "shop")[1])
    assert "Traceback" not in "".join(said)
    assert_silent("".join(said))
    assert_silent_folder(tmp_path / "shop")


NOTEBOOK = [
    "import traceback\nfrom urllib.parse import unquote, urlsplit\nfrom crmlab import data\n"
    "from crmlab.report import provenance, record, record_table\naudit = data.audit(dataset, table='sales')\naudit",
    "record('rows', audit.rows)\nprovenance(dataset)",
    "print(dataset, {'password': unquote(urlsplit(dataset).password)}, unquote(urlsplit(dataset).password))",
    "record_table('addresses', audit.findings.assign(address=dataset))",
    "for url in (*others, dataset):\n    try:\n        data.load(url, table='nothing')\n"
    "    except ValueError:\n        traceback.print_exc()",
    "import logging\nlogging.warning(dataset)\nprint(unquote(dataset))",
]
BROKEN = ["data.connect(dataset).sql('SELECT nonsense')", "raise RuntimeError(f'no {dataset}, {unquote(dataset)}')"]


@pytest.mark.parametrize("last", [None, *BROKEN], ids=["good", "an error of SQL", "an error that quotes it"])
def test_a_report_does_not_show_the_password(last, address, failing, crmlab, tmp_path):
    head = "dataset: str = 'cdnow'  # an address\nothers: list[str] = []  # addresses that fail"
    cells = [new_code_cell(head, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(cell) for cell in [*NOTEBOOK, *([last] if last else [])]]
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# Where do numbers come from?"), *cells]), tmp_path / "n.ipynb"
    )
    others = json.dumps([url for url, _table in failing.values()])
    code, said = crmlab("run", "n.ipynb", "--set", f"dataset={address}", "--set", f"others={others}")
    assert code == (1 if last else 0), said
    assert_silent(said)
    assert_silent_folder(tmp_path / "site")
    shown = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.ipynb"))
    assert "400" in shown
    assert "***" in shown


TOKEN = "t0k3n-" + "of-a-service/" * 5 + "<&> \"'\\ 密"
TELLING = [
    "import html, json, logging, os, sys, traceback\nimport pandas as pd\n"
    "from IPython.display import HTML, JSON, SVG, Markdown, display\n"
    "from crmlab.report import record, record_table, say",
    "print(token, repr(token), [token], {'token': token})\nprint(token, file=sys.stderr)\nlogging.warning(token)",
    "token",
    "print(os.environ['SERVICE_TOKEN'], dict(os.environ), os.environ['OTHER_SECRET'])",
    "display(HTML(f'<p>{html.escape(token)}</p>'), Markdown(f'**{token}**'), JSON({'a': [token]}))",
    "display(SVG(f'<svg xmlns=\"http://www.w3.org/2000/svg\"><text>{html.escape(token)}</text></svg>'))",
    "pd.DataFrame({'a': [token], 'b': [f'{token} and more']})",
    "record_table('told', pd.DataFrame({token: [token]}), caption=token)\nrecord('n', len(token), token)",
    "try:\n    raise RuntimeError(token)\nexcept RuntimeError:\n    traceback.print_exc()",
    "say(f'It is {token}.')",
]


@pytest.mark.parametrize("last", ["", "raise RuntimeError(f'no {token}')", "import os; os._exit(3)"])
def test_a_secret_reaches_the_kernel_and_nothing_else(last, crmlab, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("SERVICE_TOKEN", TOKEN)
    monkeypatch.setenv("OTHER_SECRET", WRONG)
    head = "token: str = ''  # of the service\nmore: str = ''"
    cells = [new_code_cell(head, metadata={"tags": ["parameters"]}), new_markdown_cell("Told.")]
    cells += [new_code_cell(cell) for cell in [*TELLING, *([last] if last else [])]]
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Who knows?"), *cells]), tmp_path / "n.ipynb")
    (tmp_path / "m.toml").write_text(
        '[[report]]\nname = "n"\nnotebook = "n.ipynb"\nsecret = ["more"]\ncode = true\nformats = ["html", "pdf"]\n'
        f'parameters = {{ token = "${{SERVICE_TOKEN}}", more = "{WRONG}" }}\n'
    )
    said = []
    for arguments in (["build", "m.toml"], ["build", "m.toml", "--force"], ["list", "m.toml", "--json"]):
        code, told = crmlab(*arguments)
        said.append(told)
        assert code == (1 if last and "build" in arguments else 0), told
    said.append(crmlab("run", "n.ipynb", "--set", f"token={TOKEN}", "--secret", "token", "--out", "other")[1])
    said.append(crmlab("run", "n.ipynb", "--set", f"more={TOKEN}", "--secret", "token", "--set", "token=${NO}")[1])
    assert_silent("".join(said), TOKEN, WRONG)
    assert "t0k3n-of-a" not in "".join(said)
    for folder in ("site", "other", "ipython"):
        for path in (tmp_path / folder).rglob("*"):
            content = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
            content += "".join(pdf_text(path.read_bytes())) if path.suffix == ".pdf" else ""
            assert_silent(f"{path} {content}", TOKEN, WRONG)
            # Also where a table was cut short.
            assert "t0k3n-of-a" not in content, path
    assert last or "Who" in "".join(pdf_text((tmp_path / "site/n/report.pdf").read_bytes()))
    # The kernel had it.
    assert last or json.loads((tmp_path / "site/n/results.json").read_text())["figures"]["n"]["value"] == len(TOKEN)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://h/d?user=a&password=x&y=1", "postgres://h/d?user=a&password=***&y=1"),
        ("jdbc:postgresql://h/d?user=a&password=x", "jdbc:postgresql://h/d?user=a&password=***"),
        ("jdbc:sqlserver://h;user=a;password=x;y=1", "jdbc:sqlserver://h;user=a;password=***;y=1"),
        ("jdbc:oracle:thin:scott/tiger@//h:1521/d", "jdbc:oracle:thin:scott/***@//h:1521/d"),
        ("host=h user=a password=x", "host=h user=a password=***"),
        ("host=h password='x y' user=a", "host=h password=*** user=a"),
        ("PGPASSWORD=x psql", "PGPASSWORD=*** psql"),
        ('{"user": "a", "password": "x\'y"}', '{"user": "a", "password": "***"}'),
        ("{'sslpassword': 'x'}", "{'sslpassword': '***'}"),
        ("the password is never shown", "the password is never shown"),
        ("a password: see https://host/help?page=1", "a password: see https://host/help?page=1"),
    ],
)
def test_a_password_is_hidden_in_every_spelling(text, shown):
    assert mask(text) == shown
    assert mask({"a": [text]}) == {"a": [shown]}
    assert mask(shown) == shown


def test_known_passwords_are_hidden_wherever_they_stand():
    known = passwords({"dataset": f"postgres://crmlab_test:{quote(SECRET, safe='')}@h/d"})
    assert_silent(mask("\n".join(forms(SECRET)), known))
    # What is a part of many words cannot be looked for by itself.
    assert passwords("postgres://crmlab_test:data@h/d") == set()


def test_what_is_left_of_a_secret_that_was_cut_short_is_hidden():
    word = "a-long-token-" + "x" * 60
    assert mask(f"{word} {word[:47]}... {word[:13]}y {word[:11]}", {word}) == f"*** ***... ***y {word[:11]}"
    assert mask(word[:20] * 3, {word}) == "***" * 3
    assert mask("short", {"shorter"}) == "short"
