# The server and the interpreter of its jobs, laid out like the repository so that stack/images.toml holds here too.
# About 6 GB: torch from PyPI comes with its CUDA libraries.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}
RUN useradd --uid 50000 --gid 0 --home-dir /app --create-home sagemaker
WORKDIR /app
# uv leaves again within the layer: the jobs have no use for it.
COPY requirements/ml.txt requirements/airflow.txt requirements/uv.txt requirements/
RUN pip install --no-cache-dir --require-hashes --requirement requirements/uv.txt \
    && uv venv .venv/ml && uv pip sync --no-cache --compile-bytecode --require-hashes --python .venv/ml/bin/python requirements/ml.txt \
    && uv venv /opt/venv && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python \
      --constraints requirements/airflow.txt boto3 cbor2 httptools httpx numpy packaging psutil starlette uvicorn \
    && pip uninstall --yes uv
COPY docker/healthcheck.py /
COPY local_sagemaker local_sagemaker
COPY ml ml
COPY stack/images.toml stack/images.toml
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN mkdir /state && chown 50000:0 /state
USER 50000:0
VOLUME /state
ENTRYPOINT ["python", "-m", "local_sagemaker", "--root", "/state", "--images", "stack/images.toml"]
CMD ["--help"]
