"""How long the processes of ``make airflow`` wait for Airflow's SQLite database, which takes one writer at a time."""

CONNECT_ARGS = {"timeout": 30.0}
"""Seconds; 5 by default. An API server in which one request waits for another gives up after 5 s. A scheduler that
waits for the API server meanwhile must not give up in the same moment, and end."""
