"""A SageMaker on this machine: the same API, jobs really executed as processes, no AWS account, no Docker.

Covered: training jobs in script mode, hyperparameter tuning, Debugger rules and profiler metrics, batch transform,
models, endpoint configs, endpoints and their invocation, the model registry, CloudWatch metrics and alarms, reading
CloudWatch Logs, STS GetCallerIdentity and IAM GetRole. Not covered: every other operation answers with an AWS-shaped
error that names it. Jobs run with the rights of the user who starts the server: serve on loopback only, to yourself
only.
"""
