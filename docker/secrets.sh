#!/bin/sh
# Prints a new .env for docker-compose.yaml: every secret, from the system's random numbers.
# With the name of an .env as argument, it prints only the secrets that this file lacks.
set -eu
hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
lacks() { [ -z "$env" ] || ! grep -q "^$1=" "$env"; }
env=${1:-}

if [ -z "$env" ]; then
    cat <<END
# Secrets of this stack, made on first use. Whoever reads this file can log in everywhere: keep it private, and keep a copy.
# Without FERNET_KEY, Airflow's stored connections cannot be read; without POSTGRES_PASSWORD, the database cannot.
END
fi
while IFS= read -r line; do
    if lacks "${line%%=*}"; then printf '%s\n' "$line"; fi
done <<END
POSTGRES_PASSWORD=$(hex 24)
REDIS_PASSWORD=$(hex 24)
FERNET_KEY=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')
JWT_SECRET=$(hex 64)
API_SECRET_KEY=$(hex 32)
AIRFLOW_ADMIN_PASSWORD=$(hex 12)
GRAFANA_ADMIN_PASSWORD=$(hex 12)
GRAPHITE_SECRET_KEY=$(hex 32)
S3_ACCESS_KEY=$(hex 12)
S3_SECRET_KEY=$(hex 24)
END
