"""Weekly retraining of image classifiers on Amazon SageMaker.

Pure core (standard library; data in, data out):
    recipe/                   what to train, checked
    plan                      recipe + environment + run → every name and S3 address of one run
    sagemaker_requests        plan → the request dicts of the SageMaker API
    job_kinds                 what SageMaker's job types have in common
    rule_verdicts, promotion  what the measurements mean
    fingerprint, report       what changed; what happened
    warm_start                which earlier searches a new one begins from

Thin edge (Airflow, boto3, files):
    environment, images, run  where we are, which containers, one DAG run seen from a task
    dataset/                  any image source → verified, split, content-addressed data in S3
    source, champion          ml/ as sourcedir.tar.gz; the pointer to what serves
    rejections, tuning_history   what was tried before: in vain, and at all
    operators/, steps/, triggers, sensors, links   what the DAG is made of
"""
