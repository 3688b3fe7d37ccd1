#!/bin/sh
# `prepare` makes the database and the bucket; anything else is an airflow command.
set -eu
if [ "$1" = prepare ]; then
    airflow db check --retry 60 --retry-delay 1
    airflow db migrate
    exec python /prepare_bucket.py
fi
if [ -n "${AIRFLOW_ADMIN_PASSWORD:-}" ]; then
    # SimpleAuthManager reads passwords from a file, and invents them where it is missing.
    (umask 077 && python -c 'import json, os; print(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))' \
        >"$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE")
fi
case "$1" in
    # Tasks and looks at the DAGs are forked from these, with all libraries imported.
    scheduler | dag-processor) exec python -m retraining.preloaded "$@" ;;
esac
exec airflow "$@"
