"""One task a report, side by side, then the index page; copy to Airflow's folder of DAGs.

Airflow 3 with the standard provider; Airflow 2 has the three names in `airflow`, `airflow.decorators` and
`airflow.operators.bash`. Airflow need not be in crmlab's environment: it only starts the command.
"""

import json
import subprocess
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

CRMLAB = "/srv/crmlab/.venv/bin/crmlab"
MANIFEST = "/srv/crmlab/reports/monthly.toml"
BUILD = f"{CRMLAB} build {MANIFEST} --out /srv/www/reports"

with DAG(
    "crmlab_monthly",
    schedule="0 5 1 * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10), "execution_timeout": timedelta(hours=1)},
):

    @task
    def commands():
        """One command for each report of the manifest, as it is today."""
        found = subprocess.run([CRMLAB, "list", MANIFEST, "--json"], capture_output=True, text=True, check=True)
        return [f"{BUILD} --index {number}" for number, _ in enumerate(json.loads(found.stdout))]

    # Two at a time; append_env keeps PATH and HOME, and the passwords that the manifest names as ${…}.
    reports = BashOperator.partial(task_id="report", append_env=True, max_active_tis_per_dagrun=2).expand(
        bash_command=commands()
    )
    # Also when a report failed; this task then fails too, and with it the run.
    index = BashOperator(task_id="index", bash_command=BUILD, append_env=True, trigger_rule="all_done")
    reports >> index
