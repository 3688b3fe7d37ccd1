# The model server as SageMaker runs it: `docker run IMAGE serve`, the model unpacked below /opt/ml/model, port 8080.
# An artifact that is served with OpenVINO needs no torch. ALSO adds packages at their pinned versions: "torch" for other
# artifacts (5 GB, CUDA libraries included), or what an inference.py of your own imports.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
ARG ALSO=""
COPY requirements/ml.txt requirements/uv.txt /pins/
RUN pip install --no-cache-dir --require-hashes --requirement /pins/uv.txt
# Compiled now, because the server's user can write nothing: that takes half a second off every start.
RUN uv venv /opt/venv && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python \
      --constraints /pins/ml.txt httptools numpy openvino pillow starlette uvicorn $ALSO

FROM ${PYTHON_IMAGE}
# The server reads SAGEMAKER_BIND_TO_PORT, which SageMaker sets where a container must say that it does.
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
RUN useradd --uid 50000 --gid 0 --home-dir /opt/program --create-home server
COPY --from=build /opt/venv /opt/venv
COPY ml/serve.py /opt/program/
COPY ml/server /opt/program/server
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 50000:0
EXPOSE 8080
ENTRYPOINT ["python", "/opt/program/serve.py"]
CMD ["serve"]
