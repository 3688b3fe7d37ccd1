"""The errors the API answers with: SageMaker's codes, wording and HTTP statuses, because clients match on them."""


class ApiError(Exception):
    """An error as AWS sends it. `code` is what boto3 shows as ClientError.response["Error"]["Code"]."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def validation(message: str) -> ApiError:
    return ApiError("ValidationException", message)


def not_stoppable(what: str, status: str | None) -> ApiError:
    """A Stop* of a job that has ended; the SDKs know by the code that there is nothing to stop any more."""
    return validation(f"The request was rejected because the {what} is in status {status}.")


def resource_in_use(arn: str) -> ApiError:
    return ApiError(
        "ResourceInUse",
        f"Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})",
    )


def resource_not_found(message: str) -> ApiError:
    return ApiError("ResourceNotFound", message)


def unknown_operation(service: str, operation: str) -> ApiError:
    """The answer to everything this server does not do; it names the operation so that nobody has to guess."""
    hint = "`python -m local_sagemaker --operations` lists what it implements."
    if service == "s3":
        hint = "Start it with AWS_ENDPOINT_URL_S3 set to an object store, or set that for the client."
    return ApiError(
        "UnknownOperationException",
        f"local_sagemaker does not implement {operation} of the service '{service}'. {hint}",
    )
