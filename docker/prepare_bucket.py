"""Makes the bucket and waits until an object written to it can be read back.

SeaweedFS answers simple requests seconds before it can serve objects, so that only a real read proves it ready.
"""

import os
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

WITHIN_S = 60


def prepare(bucket: str) -> None:
    s3 = boto3.client("s3", config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}))
    try:
        s3.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    s3.put_object(Bucket=bucket, Key=".stack-ready", Body=b"ready")
    s3.get_object(Bucket=bucket, Key=".stack-ready")["Body"].read()


def main() -> int:
    bucket, deadline = os.environ["RETRAINING_BUCKET"], time.monotonic() + WITHIN_S
    while True:
        try:
            prepare(bucket)
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                print(f"The bucket {bucket} is not usable after {WITHIN_S} s: {error}", file=sys.stderr)
                return 1
            time.sleep(1)
        else:
            print(f"The bucket {bucket} is ready.")
            return 0


if __name__ == "__main__":
    sys.exit(main())
