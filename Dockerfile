# The slim image is Airflow without providers: requirements.txt then decides every version, and no provider that nobody
# uses asks for another one.
FROM apache/airflow:slim-3.3.2-python3.12

COPY --chown=airflow:0 requirements.txt requirements-server.txt /opt/airflow/
RUN pip install --no-cache-dir -r /opt/airflow/requirements.txt -r /opt/airflow/requirements-server.txt \
    && test "$(airflow version)" = 3.3.2

ENV PYTHONPATH=/opt/airflow/plugins \
    NUMBA_CACHE_DIR=/opt/airflow/.cache/numba \
    MPLCONFIGDIR=/opt/airflow/.cache/matplotlib \
    MPLBACKEND=Agg

COPY --chown=airflow:0 include /opt/airflow/include
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 docs/monitoring.md /opt/airflow/docs/monitoring.md

COPY --chown=airflow:0 docker/compile_loops.py /tmp/

# Compiled here, once, and not by every first task. The folders are there so that volumes begin as the airflow user's.
RUN mkdir -p /opt/airflow/emotion-home /opt/airflow/auth /opt/airflow/logs \
    && python -m compileall -q /opt/airflow/plugins /opt/airflow/dags \
    && python /tmp/compile_loops.py
