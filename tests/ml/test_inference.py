import base64
import io
import json

import pytest
import torch
from PIL import Image

import inference
import model


def encoded(size=(16, 16), kind="PNG"):
    buffer = io.BytesIO()
    image = Image.effect_noise((16, 16), 80).convert("RGB")
    image.resize(size, Image.Resampling.NEAREST).save(buffer, kind)
    return buffer.getvalue()


PNG = encoded()
BASE64 = base64.b64encode(PNG).decode()
CLASSES = ["a", "b", "c", "d", "e", "f", "g"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    description = {
        "network": {"arch": "resnet18", "num_outputs": 7, "stem": "small"},
        "classes": CLASSES,
        "image_size": 16,
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
    }
    model.save_artifact(folder, model.build(**description["network"]).state_dict(), description)
    loaded = inference.model_fn(folder)
    inference.model_warmup_fn(folder, loaded)
    return loaded


def ask(network, body, content_type, accept="application/json"):
    answer, kind = inference.output_fn(inference.predict_fn(inference.input_fn(body, content_type), network), accept)
    assert kind == "application/json"
    return json.loads(answer)


def test_an_answer_ranks_the_classes(network):
    answer = ask(network, PNG, "image/png")
    assert answer["label"] == CLASSES[answer["index"]] == answer["top"][0]["label"]
    assert answer["score"] == max(answer["probabilities"]) == answer["top"][0]["score"]
    assert len(answer["top"]) == 5
    assert sum(answer["probabilities"]) == pytest.approx(1)


def test_every_content_type_gives_the_same_answer(network):
    asked = [
        (PNG, "image/png"),
        (PNG, "image/jpeg; charset=x"),  # the bytes decide
        (bytearray(PNG), "Application/X-Image"),
        (json.dumps({"image": BASE64}), "application/json"),
        (json.dumps({"image": BASE64}).encode(), "application/json; charset=utf-8"),
    ]
    answers = [ask(network, *request) for request in asked]
    assert all(answer == answers[0] for answer in answers)


def test_instances_are_answered_in_order(network):
    bodies = [PNG, encoded((20, 40), "JPEG")]
    texts = [base64.b64encode(body).decode() for body in bodies]
    answers = ask(network, json.dumps({"instances": texts}), "application/json")["predictions"]
    single = [ask(network, body, "application/x-image")["probabilities"] for body in bodies]
    for answer, expected in zip(answers, single, strict=True):
        assert answer["probabilities"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (PNG, "text/plain", 415, "CONTENT_TYPE"),
        (PNG, None, 415, "CONTENT_TYPE"),
        (PNG, "x" * 10_000, 415, "CONTENT_TYPE"),
        (b"", "image/png", 400, "EMPTY"),
        (b"hello", "image/png", 415, "FORMAT"),
        (PNG[:200], "image/png", 422, "TRUNCATED"),
        (encoded((5100, 5000), "JPEG"), "image/png", 413, "TOO_MANY_PIXELS"),
        ("{", "application/json", 400, "JSON"),
        (b"\xff\xfe{", "application/json", 400, "JSON"),
        ('{"image": NaN}', "application/json", 400, "JSON"),
        ("[" * 100_000, "application/json", 400, "JSON"),
        ("[]", "application/json", 400, "JSON_SHAPE"),
        ('{"url": "http://169.254.169.254/"}', "application/json", 400, "JSON_SHAPE"),
        ('{"image": 7}', "application/json", 400, "BASE64"),
        ('{"image": "data:image/png;base64,AAAA"}', "application/json", 400, "BASE64"),
        ('{"instances": []}', "application/json", 400, "INSTANCES"),
        (json.dumps({"instances": [BASE64] * 17}), "application/json", 400, "INSTANCES"),
    ],
)
def test_bad_requests_are_refused_by_code(body, content_type, status, code):
    with pytest.raises(inference.RequestError) as caught:
        inference.input_fn(body, content_type)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert len(str(caught.value)) < 1000


def test_one_request_has_one_budget_of_pixels():
    text = base64.b64encode(encoded((3000, 3000), "JPEG")).decode()
    with pytest.raises(inference.RequestError, match="image 2: the image has 3000 x 3000 pixels"):
        inference.input_fn(json.dumps({"instances": [text] * 3}), "application/json")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html, application/*;q=0.8"])
def test_any_client_that_takes_json_gets_it(network, accept):
    assert ask(network, PNG, "image/png", accept)


def test_other_formats_of_answer_are_refused():
    with pytest.raises(inference.RequestError) as caught:
        inference.output_fn({}, "text/csv")
    assert caught.value.status_code == 406


def test_a_broken_model_is_not_believed(network):
    with torch.no_grad():
        good = network.fc.bias.clone()
        network.fc.bias += float("nan")
    with pytest.raises(inference.RequestError) as caught:
        ask(network, PNG, "image/png")
    assert caught.value.status_code == 503
    network.fc.bias.data = good
