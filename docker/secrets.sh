#!/bin/sh
# Prints a fresh .env for docker-compose.yaml: every secret, drawn from the system's random numbers.
# With the name of an .env, which an earlier release has made: only the secrets that it lacks.
set -eu
hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
lacks() { [ -z "$env" ] || ! grep -q "^$1=" "$env"; }
env=${1:-}

if [ -z "$env" ]; then
    cat <<END
# Secrets of this machine's stack, made on first use. Whoever reads this file can log in everywhere: keep it private.
# Losing FERNET_KEY loses Airflow's stored connections; losing POSTGRES_PASSWORD, the way into the database's volume.
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
