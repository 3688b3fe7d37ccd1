"""The `context` that the functions of an inference.py may take: TorchServe's, one for each request.

Names and arguments are those of TorchServe 0.12 (ts/context.py), which AWS's inference containers hand to user code.
`idx` is the request's place in the batch: 0, except for predict_batch_fn, which gets one context for all its requests.
Headers are found whatever their capitals are. Metrics are taken and go nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    Given = Mapping[str, Any] | Iterable[tuple[str, Any]]  # headers

SERVER = {"server_name": "MMS", "server_version": "0.12.0", "limit_max_image_pixels": True}
MODEL_NAME = "model"


class Headers(dict[str, Any]):
    """Header → text, found in any spelling and listed in the usual one."""

    def __init__(self, items: Given = ()) -> None:
        super().__init__((spelt(name), value) for name, value in dict(items).items())

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(spelt(name))

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(spelt(name), value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(spelt(name))

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(spelt(name), default)


def spelt(name: object) -> str:
    return "-".join(part.capitalize() for part in str(name).split("-")).replace("Sagemaker", "SageMaker")


class RequestProcessor:
    """The headers of one request, and what is to be answered beside the body."""

    def __init__(self, headers: Given = ()) -> None:
        self.request_headers, self.response_headers = Headers(headers), Headers()
        self.status = 200
        self.phrase: str | None = None

    def get_request_property(self, key: str) -> Any:
        return self.request_headers.get(key)

    def get_request_properties(self) -> Headers:
        return self.request_headers

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        if not (isinstance(code, int) and 200 <= code <= 599):
            raise ValueError(f"{code!r} is no status of an answer; it must be a number from 200 to 599")
        self.status, self.phrase = int(code), reason_phrase

    def get_response_status_code(self) -> int:
        return self.status

    def get_response_status_phrase(self) -> str | None:
        return self.phrase

    def add_response_property(self, key: str, value: Any) -> None:
        self.response_headers[key] = value

    def get_response_headers(self) -> Headers:
        return self.response_headers

    def get_response_header(self, key: str) -> Any:
        return self.response_headers.get(key)


class Metrics:
    """Takes what user code measures. SageMaker's containers write it to a log that nobody here reads."""

    def add_metric(self, *_: object, **__: object) -> Metrics:
        return self

    add_counter = add_time = add_size = add_percent = add_error = add_metric_to_cache = get_metric = add_metric
    add_or_update = update = reset = add_metric


class Context:
    explain = False

    def __init__(
        self,
        model_dir: Path | str,
        processors: list[RequestProcessor] | None = None,
        request_ids: Mapping[int, str | None] | None = None,
        batch_size: int = 1,
    ) -> None:
        """Without `processors` that of a model being loaded: there is no request then."""
        self.model_name = MODEL_NAME
        self.manifest = {"runtime": "python", "model": {"modelName": MODEL_NAME, "modelVersion": "1"}}
        self.system_properties = {"model_dir": str(model_dir), "gpu_id": None, "batch_size": batch_size, **SERVER}
        self.request_processor, self.request_ids = processors, request_ids
        self.metrics = Metrics()

    @classmethod
    def of_request(cls, model_dir: Path | str, headers: Given, request_id: str) -> Context:
        return cls(model_dir, [RequestProcessor(headers)], {0: request_id})

    @classmethod
    def of_batch(cls, model_dir: Path | str, contexts: Sequence[Context]) -> Context:
        """One for several requests: what is said of the nth goes into the nth one's answer."""
        processors = [context.processor_of(0) for context in contexts]
        ids = {idx: context.get_request_id() for idx, context in enumerate(contexts)}
        return cls(model_dir, processors, ids, batch_size=len(processors))

    def processor_of(self, idx: int) -> RequestProcessor:
        """Of one request of the batch; there is none while a model is loaded."""
        assert self.request_processor is not None
        return self.request_processor[idx]

    def get_request_id(self, idx: int = 0) -> str | None:
        return (self.request_ids or {}).get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        return self.request_processor[idx].get_request_property(key) if self.request_processor else None

    def get_all_request_header(self, idx: int) -> Mapping[str, Any]:
        return self.request_processor[idx].get_request_properties() if self.request_processor else {}

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> Any:
        return self.get_response_headers(idx).get("content-type")

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        if self.request_processor:
            self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        for processor in self.request_processor or ():
            processor.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        processor = self.processor_of(idx)
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def set_response_header(self, idx: int, key: str, value: Any) -> None:
        if self.request_processor:
            self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> Headers:
        return self.processor_of(idx).get_response_headers()
