import base64
import io
import json
from collections import Counter
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from network import artifact, model, runtime
from pictures.memory_gate import MemoryGate
from pictures.request import Request


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
    artifact.save(folder, model.build(**description["network"]).state_dict(), description)
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
        (json.dumps({"image": BASE64}).encode("utf-8-sig"), "application/json"),  # Windows begins a text so
        ("\ufeff" + json.dumps({"image": BASE64}), "application/json"),  # and a server makes text of it
        (json.dumps({"image": BASE64}).encode("utf-16"), "application/json; charset=utf-16"),
        (PNG, "binary/octet-stream"),  # S3's for an object of which nothing was said
        (PNG, "image/x-ms-bmp"),
    ]
    answers = [ask(network, *request) for request in asked]
    assert all(answer == answers[0] for answer in answers)


def test_numbers_of_another_byte_order_are_the_same(network):
    numbers = np.random.default_rng(0).random((1, 3, 16, 16)).astype(np.float32)
    answers = []
    for order in "<>":
        body = io.BytesIO()
        np.save(body, numbers.astype(f"{order}f4"))
        answers.append(ask(network, body.getvalue(), "application/x-npy"))
    assert answers[0] == answers[1]


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
        (encoded((12100, 10000), "JPEG"), "image/png", 413, "TOO_MANY_PIXELS"),
        ("{", "application/json", 400, "JSON"),
        (b"\xff\xfe{", "application/json", 400, "JSON"),
        ('{"image": NaN}', "application/json", 400, "JSON"),
        ("[" * 100_000, "application/json", 400, "JSON"),
        ("[]", "application/json", 400, "JSON_SHAPE"),
        ('{"url": "https://example.com/cat.jpg"}', "application/json", 400, "URL_DISABLED"),
        ('{"image": "", "image": ""}', "application/json", 400, "JSON"),
        (json.dumps({"image": BASE64, "url": "https://example.com/"}), "application/json", 400, "JSON_SHAPE"),
        ('{"image": ' + "1" * 5000 + "}", "application/json", 400, "JSON"),
        ("\ufeff{", "application/json", 400, "JSON"),
        ("\ufeff\ufeff{}", "application/json", 400, "JSON"),
        ('{"image": 7}', "application/json", 400, "BASE64"),
        ('{"image": "data:image/png;base64,AAAA"}', "application/json", 400, "BASE64"),
        ('{"instances": []}', "application/json", 400, "INSTANCES"),
        (json.dumps({"instances": [BASE64] * 17}), "application/json", 400, "INSTANCES"),
    ],
)
def test_bad_requests_are_refused_by_code(network, body, content_type, status, code):
    with pytest.raises(inference.RequestError) as caught:
        inference.input_fn(body, content_type)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert len(str(caught.value)) < 1000


def test_one_request_has_one_budget_of_pixels(network):
    text = base64.b64encode(encoded((8000, 6000), "JPEG")).decode()
    with pytest.raises(inference.RequestError, match="image 2: with it the request has more than 120,000,000 pixels"):
        inference.input_fn(json.dumps({"instances": [text] * 3}), "application/json")


def test_large_pictures_that_find_no_memory_are_told_to_come_back(network, monkeypatch):
    memory = MemoryGate(2**20, wait_s=0.05)
    monkeypatch.setattr("pictures.request.DECODING", memory)
    assert ask(network, PNG, "image/png")
    with memory.room(2**20), pytest.raises(inference.RequestError) as caught:
        inference.input_fn(encoded((900, 900)), "image/png")
    assert (caught.value.status_code, caught.value.code) == (429, "BUSY")


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
    lines = [line.split(",") for line in body.splitlines()]
    assert [label for label, _ in lines] == [expected["label"]] * 2
    assert [float(score) for _, score in lines] == pytest.approx([expected["score"]] * 2, rel=1e-5)  # two at once


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
        expected = network.runtime.network(images)
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
        (npy(np.full((1, 3, 16, 16), np.nan, np.float16)), "ARRAY_VALUES"),
        (npy(np.full((1, 3, 16, 16), 1e300)), "ARRAY_VALUES"),
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
    """Of several requests only those whose numbers are broken are refused."""
    good = network.runtime

    class Broken:
        def logits(self, images):
            return np.where(images[:, 0, 0, :1] > 1, np.nan, good.logits(images))

    requests = [Request(np.full((1, 3, 16, 16), value, np.float32), False) for value in (0, 9)]
    first, second = inference.predict_batch_fn(requests, runtime.Model(Broken(), network.description))
    assert first.logits.shape == (1, 7)
    assert (second.status_code, second.code) == (503, "MODEL_NONFINITE")


def test_one_logit_gives_the_probabilities_of_two_classes():
    probabilities = inference.Prediction(np.array([[-2.0], [1000.0]]), ["no", "yes"], True).probabilities
    expected = torch.tensor([[0.0, -2.0], [0.0, 1000.0]], dtype=torch.float64).softmax(1)
    np.testing.assert_allclose(probabilities, expected)


def test_requests_together_are_answered_as_alone(network):
    bodies = [PNG, encoded((30, 20), "JPEG"), encoded((16, 16))]
    requests = [inference.input_fn(body, "application/x-image") for body in bodies]
    requests.insert(1, inference.input_fn(json.dumps({"instances": [BASE64] * 2}), "application/json"))
    requests.insert(2, Request(np.zeros((1, 3, 20, 20), np.float32), False))
    answers = inference.predict_batch_fn(requests, network)
    assert answers[2].code == "ARRAY_SHAPE"
    for request, answer in zip(requests[:2] + requests[3:], answers[:2] + answers[3:], strict=True):
        np.testing.assert_allclose(answer.logits, inference.predict_fn(request, network).logits, atol=1e-5)
        assert answer.is_list == request.is_list


def test_a_request_read_for_another_side_is_decoded_again(network):
    image = encoded((64, 64), "JPEG")
    expected = inference.predict_fn(inference.input_fn(image, "image/jpeg"), network).logits
    for side in (None, 32):
        request = Request([image], False)
        request = request if side is None else request.decoded(side)
        np.testing.assert_array_equal(inference.predict_fn(request, network).logits, expected)


def mutated(body, random):
    """One of the ways in which bytes go wrong on the way, or on purpose."""
    body = bytearray(body)
    kind = random.randrange(5)
    if kind == 0:
        return bytes(body[: random.randrange(len(body))])
    if kind == 1:
        body[random.randrange(len(body)) :: random.randrange(1, 400)] = b""
    elif kind == 2:
        at = random.randrange(len(body))
        body[at:at] = random.randbytes(random.randrange(1, 40))
    else:
        for _ in range(random.choice((1, 1, 3, 20))):
            body[random.randrange(min(len(body), 40 if kind == 3 else len(body)))] = random.randrange(256)
    return bytes(body)


def test_no_damaged_body_is_the_servers_fault(network):
    """Whatever arrives is answered, or refused with a 4xx code of ours."""
    random = Random(20261121)
    seeds = [
        (PNG, "image/png"),
        (encoded((40, 30), "JPEG"), "image/jpeg"),
        (json.dumps({"instances": [BASE64, BASE64]}).encode(), "application/json"),
        (json.dumps({"image": BASE64}).encode(), "application/json"),
        (b'{"url": "https://example.com/a.png"}', "application/json"),
        (npy(np.zeros((2, 9, 9, 3), np.uint8)), "application/x-npy"),
        (npy(np.zeros((2, 3, 16, 16), np.float32)), "application/x-npy"),
    ]
    outcomes = Counter()
    for _ in range(1500):
        body, kind = random.choice(seeds)
        error = problem(network, mutated(body, random), kind)
        assert error is None or (400 <= error.status_code < 500 and error.code.isupper() and len(str(error)) < 1000)
        outcomes[error.code if error else "answered"] += 1
    assert outcomes["answered"] > 100 and len(outcomes) > 8, outcomes  # the mutations reach many kinds of ends


def problem(network, body, kind):
    try:
        ask(network, body, kind)
    except inference.RequestError as error:
        return error
