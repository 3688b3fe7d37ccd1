"""The object store is the one of the server's tests."""

from tests.local_sagemaker.conftest import s3_endpoint

__all__ = ["s3_endpoint"]
