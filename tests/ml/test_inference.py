import base64
import io
import json

import numpy as np
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


@pytest.mark.parametrize("accept", ["image/png", "text/html", "application/json; top=0", "application/json; top=x"])
def test_other_formats_of_answer_are_refused(network, accept):
    with pytest.raises(inference.RequestError) as caught:
        ask(network, PNG, "image/png", accept)
    assert (caught.value.status_code, caught.value.code) == (406, "ACCEPT")


def test_json_has_logits_and_as_many_classes_as_asked_for(network):
    answer = ask(network, PNG, "image/png", "application/json; logits=1; top=2")
    assert len(answer["top"]) == 2
    assert torch.tensor(answer["logits"]).softmax(0).tolist() == pytest.approx(answer["probabilities"], abs=1e-6)
    assert "logits" not in ask(network, PNG, "image/png")


def test_csv_has_a_line_for_each_image(network):
    prediction = inference.predict_fn(
        inference.input_fn(json.dumps({"instances": [BASE64] * 2}), "application/json"), network
    )
    body, kind = inference.output_fn(prediction, "text/csv")
    expected = ask(network, PNG, "image/png")
    assert kind == "text/csv"
    assert body == f"{expected['label']},{expected['score']:.6g}\n" * 2


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_an_array_of_pixels_is_answered_as_its_picture(network):
    pixels = np.asarray(Image.open(io.BytesIO(PNG)).convert("RGB"))
    one = ask(network, npy(pixels), "application/x-npy")
    assert one == ask(network, PNG, "image/png")
    several = ask(network, npy(np.stack([pixels, pixels])), "application/x-npy")
    assert several["predictions"][1]["probabilities"] == pytest.approx(one["probabilities"], abs=1e-5)


def test_a_normalised_array_gives_the_logits_as_an_array(network):
    """As PyTorch's default functions are used: a tensor in, the network's output back."""
    images = torch.randn(3, 3, 16, 16)
    request = inference.input_fn(npy(images.numpy()), "application/x-npy")
    body, kind = inference.output_fn(inference.predict_fn(request, network), "application/x-npy; logits=1")
    with torch.inference_mode():
        expected = network(images)
    assert kind == "application/x-npy"
    torch.testing.assert_close(torch.from_numpy(np.load(io.BytesIO(body))), expected)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "NPY"),
        (npy(np.array([{"a": 1}], dtype=object)), "NPY"),  # a pickle inside
        (npy(np.zeros((4, 4), np.uint8)), "ARRAY_SHAPE"),
        (npy(np.zeros((0, 4, 4, 3), np.uint8)), "ARRAY_SHAPE"),
        (npy(np.zeros((3, 8, 8), np.int64)), "ARRAY_SHAPE"),
        (npy(np.zeros((17, 4, 4, 3), np.uint8)), "INSTANCES"),
    ],
)
def test_bad_arrays_are_refused_by_code(body, code):
    with pytest.raises(inference.RequestError) as caught:
        inference.input_fn(body, "application/x-npy")
    assert caught.value.code == code


def test_a_normalised_array_of_another_side_is_refused(network):
    request = inference.input_fn(npy(np.zeros((1, 3, 20, 20), np.float32)), "application/x-npy")
    with pytest.raises(inference.RequestError, match=r"normalised images of this model are \(N, 3, 16, 16\)"):
        inference.predict_fn(request, network)


def test_a_broken_model_is_not_believed(network):
    with torch.no_grad():
        good = network.fc.bias.clone()
        network.fc.bias += float("nan")
    with pytest.raises(inference.RequestError) as caught:
        ask(network, PNG, "image/png")
    assert caught.value.status_code == 503
    network.fc.bias.data = good
