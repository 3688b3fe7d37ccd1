"""What an inference.py sees of a request beside its body, and says beside its answer."""

import concurrent.futures
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from server.handlers import Unsupported, written_type
from server.request_context import Context

ML = Path(__file__).parents[2] / "ml"
serve_module = importlib.import_module("serve")

FUNCTIONS = """
import json, time

def model_fn(model_dir, context):
    assert context.get_request_header(0, "x") is None and context.request_ids is None
    return [context.system_properties["model_dir"], context.manifest["model"]["modelName"], context.explain]

def input_fn(body, content_type, context):
    context.metrics.add_counter("Asked", 1)
    context.metrics.add_time("Time", 2, None, "ms")
    context.x = 1
    return context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")

def predict_fn(data, model, context):
    time.sleep(0.01)
    headers = context.request_processor[0].get_request_properties()
    return [data, headers["X-AMZN-sagemaker-custom-attributes"], "Content-Type" in dict(headers), context.x, *model]

def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", prediction[0].upper())
    context.set_response_header(0, "content-length", "1")
    context.set_response_content_type(0, "text/mine")
    if prediction[0] == "refuse":
        context.set_response_status(code=422, phrase="no", idx=0)
    if prediction[0] == "split":
        context.set_response_header(0, "x", "a\\r\\nb: c")
    if prediction[0] == "long":
        return "x" * 2000
    return json.dumps(prediction)
"""
TRANSFORM = """
def transform_fn(model, body, content_type, accept, context):
    context.set_response_header(0, "x-own", context.get_request_header(0, "x-asked"))
    return context.get_request_id(), "text/plain"

def model_fn(model_dir):
    return None
"""
BATCH = """
import time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(data, model, context):
    time.sleep(0.05)
    return predict_batch_fn([data], model, context)[0]

def predict_batch_fn(requests, model, context):
    for idx, request in enumerate(requests):
        context.set_response_header(idx, "x-mine", context.get_request_header(idx, "x-number"))
    return [(request, len(requests)) for request in requests]

def output_fn(prediction, accept, context):
    context.set_response_header(0, "x-count", str(prediction[1]))
    return prediction[0], "text/plain"
"""
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


def written(folder, code):
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def functions(serve_once, tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("functions") / "model", FUNCTIONS)
    client, _ = serve_once(folder, SAGEMAKER_MODEL_SERVER_WORKERS="4", TS_MAX_RESPONSE_SIZE="1000")

    def ask(attributes):
        headers = {"content-type": "application/json", ATTRIBUTES: attributes}
        return client.post("/invocations", content=b"[1]", headers=headers)

    return ask


def test_each_request_has_a_context_of_its_own(functions):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(functions, [f"trace={number}" for number in range(40)]))
    for number, answer in enumerate(answers):
        assert answer.json()[:4] == [f"trace={number}", f"trace={number}", True, 1]
        assert answer.headers[ATTRIBUTES] == f"TRACE={number}"
        assert answer.headers["content-type"] == "text/mine"


def test_status_of_the_context_is_that_of_the_answer(functions):
    answer = functions("refuse")
    assert answer.status_code == 422
    assert json.loads(answer.content)[0] == "refuse"


@pytest.mark.parametrize(("attributes", "said"), [("split", "is no header"), ("long", "the answer has 2000 bytes")])
def test_answer_that_cannot_be_sent_is_an_error(functions, attributes, said):
    answer = functions(attributes)
    assert (answer.status_code, answer.json()["error"]) == (500, "INFERENCE_FAILED")
    assert said in answer.json()["detail"]
    assert functions("well").status_code == 200


def test_transform_fn_has_the_context_too(serve, tmp_path):
    client, _ = serve(written(tmp_path / "m", TRANSFORM))
    first, second = (client.post("/invocations", content=b"x", headers={"x-asked": word}) for word in ("a", "b"))
    assert (first.headers["x-own"], second.headers["x-own"]) == ("a", "b")
    assert first.text != second.text


def test_requests_of_a_batch_keep_their_headers_apart(serve, tmp_path):
    client, _ = serve(written(tmp_path / "m", BATCH), SAGEMAKER_MODEL_SERVER_WORKERS="16", SAGEMAKER_TS_BATCH_SIZE="3")

    def ask(number):
        return client.post("/invocations", content=b"%d" % number, headers={"x-number": str(number)})

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(32)))
    assert [(answer.text, answer.headers["x-mine"]) for answer in answers] == [(str(n), str(n)) for n in range(32)]
    assert 1 < max(int(answer.headers["x-count"]) for answer in answers) <= 3


def test_context_has_the_interface_of_torchserve():
    context = Context.of_request("/m", {"a": "1"}, "id")
    context.set_all_response_status(503, "later")
    context.set_response_header(0, "X-One", "1")
    context.set_response_content_type(0, "text/csv")
    assert context.get_all_request_header(0) == {"A": "1"}
    assert context.get_response_status(0) == (503, "later")
    assert context.get_response_content_type(0) == "text/csv"
    assert context.request_processor[0].get_response_header("x-one") == "1"
    assert context.system_properties["server_name"] == "MMS"
    assert (context.get_request_id(), context.get_request_id(7)) == ("id", None)
    with pytest.raises(ValueError, match="no status"):
        context.set_response_status(99)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json, text/csv", "application/json"),
        ("text/html, application/json", "application/json"),
        ("text/csv, application/json", "text/csv"),
        ("text/csv;q=0.1, application/json;q=0.9", "application/json"),
        ("text/csv;q=0, */*;q=0.1", "application/json"),
        ("text/*", "text/csv"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("application/x-npy, */*", "application/x-npy"),
        ("text/csv;q=much", "text/csv"),
        (",, */*", "application/json"),
    ],
)
def test_best_liked_type_of_an_accept_list_is_written(accept, kind):
    assert written_type(accept) == kind


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", ",", "image/*"])
def test_accept_list_without_a_known_type_is_refused(accept):
    with pytest.raises(Unsupported) as caught:
        written_type(accept)
    assert caught.value.status_code == 406


@pytest.mark.parametrize(
    ("variables", "setting", "value"),
    [
        ({"TS_MAX_REQUEST_SIZE": "1000", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "5"}, "max_payload_bytes", 1000),
        ({"MMS_MAX_REQUEST_SIZE": "1000"}, "max_payload_bytes", 1000),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "5"}, "max_payload_bytes", 5 * 2**20),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}, "max_payload_bytes", 2**30),
        ({}, "max_payload_bytes", 25 * 2**20),
        ({"MMS_MAX_RESPONSE_SIZE": "7"}, "max_answer_bytes", 7),
        ({"SAGEMAKER_TS_RESPONSE_TIMEOUT": "1", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "2"}, "timeout_s", 1),
        ({"TS_DEFAULT_RESPONSE_TIMEOUT": "3", "MMS_DEFAULT_RESPONSE_TIMEOUT": "4"}, "timeout_s", 3),
        ({"MMS_DEFAULT_RESPONSE_TIMEOUT": "4"}, "timeout_s", 4),
        ({"SAGEMAKER_TS_MAX_WORKERS": "2", "SAGEMAKER_MODEL_SERVER_WORKERS": "3"}, "workers", 2),
        ({"MMS_DEFAULT_WORKERS_PER_MODEL": "5"}, "workers", 5),
        ({"SAGEMAKER_TS_BATCH_SIZE": "8"}, "max_batch", 8),
    ],
)
def test_documented_variables_of_the_containers_count(monkeypatch, variables, setting, value):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert getattr(serve_module.parse([]), setting) == value


@pytest.mark.parametrize("text", ["a\r\nb: c", "ü", "a" * 1025])
def test_attributes_that_are_no_header_are_refused(monkeypatch, capsys, text):
    monkeypatch.setenv("MODEL_CUSTOM_ATTRIBUTES", text)
    with pytest.raises(SystemExit):
        serve_module.parse([])
    assert "MODEL_CUSTOM_ATTRIBUTES=" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["TS_MAX_REQUEST_SIZE", "MMS_DEFAULT_RESPONSE_TIMEOUT", "SAGEMAKER_TS_MAX_BATCH_DELAY"]
)
def test_variable_that_is_no_number_is_named(environment, name):
    settings = environment | {name: "6 MB", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "60"}
    done = subprocess.run([sys.executable, str(ML / "serve.py")], env=settings, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{name}='6 MB' must be a whole number from 1" in done.stderr
