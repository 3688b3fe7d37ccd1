"""Weekly retraining of image classifiers on Amazon SageMaker.

Pure core (no Airflow, no boto3; data in, data out):
    recipe/                   what to train, checked
    plan                      recipe + environment + run → every name and S3 address of one run
    requests/                 plan → the request dicts of the SageMaker API
    job_kinds                 what SageMaker's job types have in common
    promotion/, debugger/     what the measurements mean
    fingerprint, report       what changed; what happened
    tuning/, cost/            which earlier searches a new one begins from; what a run may cost

Thin edge (Airflow, boto3, files):
    environment, container_images, run   where we are, which containers, one DAG run seen from a task
    dataset/                  any image source → verified, split, content-addressed data in S3
    source, s3/               ml/ as sourcedir.tar.gz; listings and shared documents
    release/                  from an accepted candidate to one that serves
    operators/, steps/, triggers, sensors, links   what the DAG is made of
"""
