#!/bin/sh
# One task of an array a report, counted from 0 (`crmlab list reports/monthly.toml`); project and site on a shared disk.
#   job=$(sbatch --parsable slurm.sh)
#   sbatch --dependency=afterany:$job --array=0 --export=ALL,INDEX_PAGE=yes slurm.sh
# The second one has nothing left to run and writes the index page. scrontab takes the same lines, as crontab does.
#SBATCH --job-name=crmlab
#SBATCH --array=0-5%2
#SBATCH --time=00:30:00
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --output=crmlab-%A-%a.log
set -eu
cd /srv/crmlab
if [ "${INDEX_PAGE:-no}" = yes ]; then
    exec .venv/bin/crmlab build reports/monthly.toml --out /srv/www/reports
fi
exec .venv/bin/crmlab build reports/monthly.toml --out /srv/www/reports --index "$SLURM_ARRAY_TASK_ID"
