"""The whole product on one machine: SeaweedFS (S3), local_sagemaker and Airflow as plain processes on loopback ports.

`python -m stack up | retrain | status | env | down`; the Makefile's targets call these. Everything it writes is under
`.local/`. It runs in the Airflow interpreter and reaches the other programs only as processes and over HTTP.
"""
