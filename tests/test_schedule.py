"""The promises of reports/schedule/: each recipe does what it says, as far as one machine can show it."""

import ast
import email
import json
import os
import re
import runpy
import shutil
import socketserver
import subprocess
import sys
import threading
import tomllib
import types
from email import policy
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from crmlab.report.manifest import read_manifest

HERE = Path(__file__).parent.parent
RECIPES = HERE / "reports" / "schedule"
BUILD = ".venv/bin/crmlab build reports/monthly.toml --out"


def mended(text, project):
    """The recipe with the folders that a reader is told to change, changed."""
    assert "/srv/crmlab" in text
    return text.replace("/srv/crmlab", str(project)).replace("/srv/www", str(project / "www"))


@pytest.fixture
def project(tmp_path):
    """The project as the recipes suppose it: an environment, a manifest of two short reports, the recipes."""
    for folder in ("notebooks", "reports", "www"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(RECIPES, tmp_path / "reports" / "schedule")
    cells = [
        new_markdown_cell("# How many?"),
        new_code_cell("n: int = 1\npassword: str = ''", metadata={"tags": ["parameters"]}),
        new_code_cell("from crmlab.report import record\nrecord('n', n)\nassert n != 13, f'unlucky {password}'"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "n.ipynb")
    manifest(tmp_path, [1, 2])
    return tmp_path


def manifest(project, values):
    (project / "reports" / "monthly.toml").write_text(
        f'[[report]]\nname = "n"\nnotebook = "../notebooks/n.ipynb"\nmatrix = {{ n = {values} }}\n'
    )


def run(command, environment, cwd):
    """Run a command of a recipe in an environment that has nothing but what is given."""
    environment = {"HOME": str(cwd), "PATH": os.defpath} | environment
    return subprocess.run(["env", "-i", *(f"{k}={v}" for k, v in environment.items()), *command], cwd=cwd, timeout=300)


def pages(project):
    site = project / "www" / "reports"
    return sorted(str(path.relative_to(site)) for path in site.rglob("index.html") if ".history" not in path.parts)


ALL = ["index.html", "n--n-1/index.html", "n--n-2/index.html"]


class Mail(socketserver.StreamRequestHandler):
    """Just enough of SMTP to take a message."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            word = line.split()[0].upper()
            self.wfile.write({b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(word, b"250 yes\r\n"))
            if word == b"DATA":
                content = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.messages.append(email.message_from_bytes(content, policy=policy.default))
                self.wfile.write(b"250 taken\r\n")


@pytest.fixture
def post():
    """A mail server, and the environment of who writes to it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
        server.messages = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.messages, {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(server.server_address[1])}
        server.shutdown()


def cron(project):
    """The environment and the command of cron's line."""
    lines = [line for line in mended((project / "reports/schedule/cron.txt").read_text(), project).splitlines() if line]
    lines = [line for line in lines if not line.startswith("#")]
    environment = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    (line,) = [line for line in lines if not re.match(r"[A-Z_]+=", line)]
    *times, command = line.split(None, 5)
    assert all(re.fullmatch(r"\*|\d+", time) for time in times)
    # For cron a per cent sign ends the line.
    assert "%" not in command
    return environment, command


def test_crons_line_builds_in_an_empty_environment(project):
    environment, command = cron(project)
    done = run([environment["SHELL"], "-c", command], environment, project / "www")
    assert done.returncode == 0, (project / "www/crmlab.log").read_text()
    assert pages(project) == ALL


def test_a_failure_is_mailed_with_its_reason(project, post):
    manifest(project, [1, 13])
    messages, server = post
    environment, command = cron(project)
    run([environment["SHELL"], "-c", command], environment | server, project / "www")
    (message,) = messages
    assert message["Subject"] == "Reports that failed: 1"
    assert (message["From"], message["To"]) == ("crmlab@example.org", "analyst@example.org")
    assert "How many? – n: 13\r\n  AssertionError: unlucky" in message.get_content()
    assert "n--n-1/index.html" in pages(project)


def test_a_build_that_did_not_start_is_mailed_too(project, post):
    (project / "reports" / "monthly.toml").write_text("report = 3")
    environment, command = cron(project)
    run([environment["SHELL"], "-c", command], environment | post[1], project / "www")
    assert post[0][0]["Subject"] == "The reports could not be built"
    assert "monthly.toml cannot be built" in (project / "www/crmlab.log").read_text()


def units(project):
    folder = project / "units"
    folder.mkdir()
    for path in sorted(RECIPES.glob("crmlab*.*")):
        (folder / path.name).write_text(
            mended(path.read_text(), project) if ".service" in path.name else path.read_text()
        )
    return folder


def test_systemd_accepts_the_units(project):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine (Debian: systemd); the units are only run by hand")
    files = sorted(units(project).iterdir())
    assert [file.name for file in files] == ["crmlab-failed.service", "crmlab.service", "crmlab.timer"]
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (when,) = re.findall(r"^OnCalendar=(.*)$", files[-1].read_text(), re.MULTILINE)
    subprocess.run(["systemd-analyze", "calendar", when], check=True, capture_output=True)


def test_systemds_commands_build_and_mail(project, post):
    manifest(project, [1, 13])
    folder = units(project)
    codes = []
    for name in ("crmlab.service", "crmlab-failed.service"):
        (command,) = re.findall(r"^ExecStart=(.*)$", (folder / name).read_text(), re.MULTILINE)
        environment = post[1] | {"MAIL_FROM": "a@example.org", "MAIL_TO": "b@example.org, c@example.org"}
        codes.append(run(command.split(), environment, project).returncode)
    assert codes == [1, 0]
    assert pages(project) == ["index.html", "n--n-1/index.html"]
    assert post[0][0]["To"] == "b@example.org, c@example.org"


def test_the_steps_of_github_actions_build(project):
    workflow = yaml.safe_load((RECIPES / "github-actions.yml").read_text())
    # YAML 1.1 reads the key `on` as true.
    assert workflow[True]["schedule"] == [{"cron": "0 5 1 * *"}]
    (job,) = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[0] == "make env"
    assert re.search(r"^env:", (HERE / "Makefile").read_text(), re.MULTILINE)
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    for command in commands[1:]:
        assert run(["bash", "-e", "-c", command], {"CI": "true"}, project).returncode == 0
    assert (project / "site" / "index.html").exists()
    # What is published is what was built.
    assert {step["with"]["path"] for step in job["steps"] if "path" in step.get("with", {})} == {"site"}


class Operator:
    """Airflow's BashOperator, as far as the recipe uses it; whatever is given has to be known."""

    known = ("task_id", "bash_command", "append_env", "trigger_rule", "max_active_tis_per_dagrun")

    def __init__(self, **given):
        assert set(given) <= set(self.known)
        self.given, self.after = given, []

    @classmethod
    def partial(cls, **given):
        return types.SimpleNamespace(expand=lambda **more: cls(**given, **more))

    def __rshift__(self, other):
        self.after.append(other)

    def commands(self):
        one = self.given["bash_command"]
        return [one] if isinstance(one, str) else one()


def test_airflows_tasks_build_one_report_each_and_then_the_index(project, monkeypatch):
    dags = []

    class Dag:
        def __init__(self, name, **options):
            dags.append((name, options))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    bash = types.SimpleNamespace(BashOperator=Operator)
    # A decorated function gives its answer when the run is under way, not when the file is read.
    sdk = types.SimpleNamespace(DAG=Dag, task=lambda function: lambda: function)
    for name in ("airflow", "airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    monkeypatch.setitem(sys.modules, "airflow.providers.standard.operators.bash", bash)
    recipe = project / "dag.py"
    recipe.write_text(mended((RECIPES / "airflow_dag.py").read_text(), project))
    ast.parse(recipe.read_text())
    found = runpy.run_path(str(recipe))
    assert dags[0][1]["catchup"] is False
    assert found["reports"].after == [found["index"]]
    commands = found["reports"].commands()
    assert [command.rpartition(" ")[2] for command in commands] == ["0", "1"]
    assert not (project / "www" / "reports").exists()
    for command in commands:
        assert run(["bash", "-c", command], {}, project / "www").returncode == 0
    assert pages(project) == ALL[1:]
    assert found["index"].given["trigger_rule"] == "all_done"
    assert nothing_runs(project, found["index"].commands()[0])
    assert pages(project) == ALL


def nothing_runs(project, command):
    """Run what writes the index page, and tell whether it left the reports as they were."""
    files = [project / "www" / "reports" / page for page in ALL[1:]]
    before = [file.stat().st_mtime_ns for file in files]
    assert run(["sh", "-c", command], {}, project).returncode == 0
    return before == [file.stat().st_mtime_ns for file in files]


def side_by_side(project, commands):
    """Run commands at the same time, as machines of a cluster do, each with an environment of its own."""
    base = {"HOME": str(project), "PATH": os.defpath}
    running = [subprocess.Popen(command, env=base | environment, cwd=project) for command, environment in commands]
    return [process.wait(timeout=300) for process in running]


def test_kubernetes_pods_build_one_report_each_and_the_last_one_the_index(project):
    jobs = list(yaml.safe_load_all(mended((RECIPES / "kubernetes.yaml").read_text(), project)))
    assert [job["kind"] for job in jobs] == ["Job", "Job"]
    indexed, last = (job["spec"] for job in jobs)
    assert indexed["completionMode"] == "Indexed"
    assert indexed["completions"] == len(read_manifest(HERE / "reports" / "monthly.toml"))
    containers = [part["template"]["spec"]["containers"][0] for part in (indexed, last)]
    assert {container["workingDir"] for container in containers} == {str(project)}
    pod = [*containers[0]["command"], *containers[0]["args"]]
    assert side_by_side(project, [(pod, {"JOB_COMPLETION_INDEX": str(i)}) for i in range(2)]) == [0, 0]
    assert pages(project) == ALL[1:]
    assert nothing_runs(project, containers[1]["args"][0])
    assert pages(project) == ALL


def test_slurms_tasks_build_one_report_each_and_the_last_one_the_index(project):
    script = project / "slurm.sh"
    script.write_text(mended((RECIPES / "slurm.sh").read_text(), project))
    (last,) = re.findall(r"^#SBATCH --array=0-(\d+)%\d+$", script.read_text(), re.MULTILINE)
    assert int(last) + 1 == len(read_manifest(HERE / "reports" / "monthly.toml"))
    # Options stand before the first command, or they are comments.
    assert "#SBATCH" not in script.read_text().partition("\nset ")[2]
    tasks = [(["sh", str(script)], {"SLURM_ARRAY_TASK_ID": str(i)}) for i in range(2)]
    assert side_by_side(project, tasks) == [0, 0]
    assert pages(project) == ALL[1:]
    assert nothing_runs(project, f"INDEX_PAGE=yes SLURM_ARRAY_TASK_ID=0 sh {script}")
    assert pages(project) == ALL


def test_a_number_that_no_report_has_is_told(project):
    command = [".venv/bin/crmlab", "build", "reports/monthly.toml", "--index", "2"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there are 2, numbered 0 to 1" in done.stderr


def test_the_manifests_of_the_project_are_right():
    for path in sorted((HERE / "reports").glob("*.toml")):
        assert read_manifest(path)
    monthly = read_manifest(HERE / "reports" / "monthly.toml")
    assert [run.slug.partition("--")[0] for run in monthly] == [
        "five_questions",
        "customer_lifecycle",
        "churn",
        "customer_lifetime_value",
        "customer_lifetime_value",
        "key_customers",
    ]
    # In one place: what a reader has to change.
    assert {run.parameters["dataset"] for run in monthly} == {"complete_journey"}
    assert (HERE / "reports" / "monthly.toml").read_text().count('\ndataset = "') == 1
    workbook = {run.notebook.name for run in read_manifest(HERE / "reports" / "workbook.toml")}
    assert workbook == {path.name for path in (HERE / "notebooks").glob("*.ipynb")}


def test_every_recipe_is_listed_and_names_no_package_index():
    listed = set(re.findall(r"\]\(([^)]+)\)", (RECIPES / "README.md").read_text()))
    assert listed == {path.name for path in RECIPES.iterdir()} - {"README.md", "__pycache__"}
    for path in RECIPES.iterdir():
        if path.is_file():
            assert not re.search(r"index-url|pypi|simple/", path.read_text(encoding="utf-8")), path
            assert BUILD in path.read_text() or path.suffix in (".py", ".md", ".timer") or "failed" in path.name


def test_the_settings_in_the_readme_of_manifests_are_toml():
    text = (RECIPES / "jupyter_scheduler.md").read_text()
    for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        tomllib.loads(block)
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        json.loads(block)
