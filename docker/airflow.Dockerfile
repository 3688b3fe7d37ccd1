# Airflow with the provider and what the DAG imports. DAGs, plugins and ml/ are mounted, not baked in.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
COPY requirements/airflow.txt requirements/postgres.txt requirements/uv.txt /pins/
RUN pip install --no-cache-dir --require-hashes --requirement /pins/uv.txt
# The pins also hold what the local stack and the tests need; the image takes only its part of them.
RUN uv venv /opt/venv && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python \
      --constraints /pins/airflow.txt --constraints /pins/postgres.txt \
      apache-airflow "apache-airflow-providers-amazon[aiobotocore]" apache-airflow-providers-standard \
      sagemaker scikit-learn pillow pyyaml psycopg2-binary asyncpg

FROM ${PYTHON_IMAGE}
RUN useradd --uid 50000 --gid 0 --home-dir /opt/airflow --create-home airflow
COPY --from=build /opt/venv /opt/venv
COPY docker/airflow-entrypoint.sh docker/healthcheck.py docker/prepare_bucket.py /
# PYTHONPATH: for `python -m retraining` by hand; Airflow itself finds its plugins without.
ENV PATH=/opt/venv/bin:$PATH AIRFLOW_HOME=/opt/airflow PYTHONPATH=/opt/airflow/plugins PYTHONUNBUFFERED=1
# A named volume takes the ownership that its folder has in the image: no container needs root for it.
RUN mkdir -p /opt/airflow/logs && chown -R 50000:0 /opt/airflow
USER 50000:0
WORKDIR /opt/airflow
ENTRYPOINT ["sh", "/airflow-entrypoint.sh"]
