#!/bin/bash
# Makes what Airflow needs before it starts: tables, pools, the admin's password. It may run any number of times.
set -euo pipefail

airflow db migrate
airflow pools set emotion_featurize "$EMOTION_SLOTS" "Featurization: one slot a core"
airflow pools set emotion_scoring "$EMOTION_SLOTS" "Scoring: one slot a core"
umask 077
printf '{"admin": "%s"}\n' "$AIRFLOW_ADMIN_PASSWORD" > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
