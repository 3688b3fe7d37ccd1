# What verifies images and evaluates rules, as SageMaker Processing runs it: the worker's Python, Pillow and NumPy, by the
# pins that Airflow has. The jobs bring the code. `docker build --file docker/processing.Dockerfile --tag IMAGE .`, push it
# to ECR, and name it by RETRAINING_PROCESSING_IMAGE; anew when the pins change.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}
COPY requirements/airflow.txt requirements/uv.txt /pins/
RUN pip install --no-cache-dir --require-hashes --requirement /pins/uv.txt
RUN uv venv /opt/venv && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python \
      --constraints /pins/airflow.txt numpy pillow
# As root, for the folders below /opt/ml/processing are root's.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
