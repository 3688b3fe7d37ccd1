"""The `context` that the functions of an inference.py may take: TorchServe's, one for each request.

Names and arguments are those of TorchServe 0.12 (ts/context.py), which AWS's inference containers hand to user code.
`idx` is the request's place in the batch: 0, except for predict_batch_fn, which gets one context for all its requests.
Headers are found whatever their capitals are. Metrics are taken and go nowhere.
"""

SERVER = {"server_name": "MMS", "server_version": "0.12.0", "limit_max_image_pixels": True}
MODEL_NAME = "model"


class Headers(dict):
    """Header → text, found in any spelling and listed in the usual one."""

    def __init__(self, items=()):
        super().__init__((spelt(name), value) for name, value in dict(items).items())

    def __getitem__(self, name):
        return super().__getitem__(spelt(name))

    def __setitem__(self, name, value):
        super().__setitem__(spelt(name), value)

    def __contains__(self, name):
        return isinstance(name, str) and super().__contains__(spelt(name))

    def get(self, name, default=None):
        return super().get(spelt(name), default)


def spelt(name):
    return "-".join(part.capitalize() for part in str(name).split("-")).replace("Sagemaker", "SageMaker")


class RequestProcessor:
    """The headers of one request, and what is to be answered beside the body."""

    def __init__(self, headers=()):
        self.request_headers, self.response_headers = Headers(headers), Headers()
        self.status, self.phrase = 200, None

    def get_request_property(self, key):
        return self.request_headers.get(key)

    def get_request_properties(self):
        return self.request_headers

    def report_status(self, code, reason_phrase=None):
        if not (isinstance(code, int) and 200 <= code <= 599):
            raise ValueError(f"{code!r} is no status of an answer; it must be a number from 200 to 599")
        self.status, self.phrase = int(code), reason_phrase

    def get_response_status_code(self):
        return self.status

    def get_response_status_phrase(self):
        return self.phrase

    def add_response_property(self, key, value):
        self.response_headers[key] = value

    def get_response_headers(self):
        return self.response_headers

    def get_response_header(self, key):
        return self.response_headers.get(key)


class Metrics:
    """Takes what user code measures. SageMaker's containers write it to a log that nobody here reads."""

    def add_metric(self, *_, **__):
        return self

    add_counter = add_time = add_size = add_percent = add_error = add_metric_to_cache = get_metric = add_metric
    add_or_update = update = reset = add_metric


class Context:
    explain = False

    def __init__(self, model_dir, processors=None, request_ids=None, batch_size=1):
        """Without `processors` that of a model being loaded: there is no request then."""
        self.model_name = MODEL_NAME
        self.manifest = {"runtime": "python", "model": {"modelName": MODEL_NAME, "modelVersion": "1"}}
        self.system_properties = {"model_dir": str(model_dir), "gpu_id": None, "batch_size": batch_size, **SERVER}
        self.request_processor, self.request_ids = processors, request_ids
        self.metrics = Metrics()

    @classmethod
    def of_request(cls, model_dir, headers, request_id):
        return cls(model_dir, [RequestProcessor(headers)], {0: request_id})

    @classmethod
    def of_batch(cls, model_dir, contexts):
        """One for several requests: what is said of the nth goes into the nth one's answer."""
        processors = [context.request_processor[0] for context in contexts]
        ids = {idx: context.get_request_id() for idx, context in enumerate(contexts)}
        return cls(model_dir, processors, ids, batch_size=len(processors))

    def get_request_id(self, idx=0):
        return (self.request_ids or {}).get(idx)

    def get_request_header(self, idx, key):
        return self.request_processor[idx].get_request_property(key) if self.request_processor else None

    def get_all_request_header(self, idx):
        return self.request_processor[idx].get_request_properties() if self.request_processor else {}

    def set_response_content_type(self, idx, value):
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx):
        return self.get_response_headers(idx).get("content-type")

    def set_response_status(self, code=200, phrase="", idx=0):
        if self.request_processor:
            self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code=200, phrase=""):
        for processor in self.request_processor or ():
            processor.report_status(code, phrase)

    def get_response_status(self, idx):
        processor = self.request_processor[idx]
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def set_response_header(self, idx, key, value):
        if self.request_processor:
            self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx):
        return self.request_processor[idx].get_response_headers()
