"""The control plane by SageMaker noun: functions named after API operations, `(platform, request) -> response`.

They check what the service model cannot say, write records and start or stop the machinery; they do no work themselves.
"""
