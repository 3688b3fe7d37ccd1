"""serve.py as a process, over HTTP."""

import contextlib
import io
import json
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.waiting import PATIENCE_S, wait_until

ML = Path(__file__).parents[2] / "ml"


@pytest.fixture
def user_model(tmp_path):
    """user_model(code) -> a model folder with that inference.py."""

    def write(code):
        (tmp_path / "m" / "code").mkdir(parents=True)
        (tmp_path / "m" / "code" / "inference.py").write_text(code)
        return tmp_path / "m"

    return write


def test_our_artifact_answers_over_http(finished, serve, images):
    client, _ = serve(finished.model_dir)
    body = (images / "train/red/0.png").read_bytes()
    answer = client.post("/invocations", content=body, headers={"content-type": "image/png"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["label"] == "red"

    refused = client.post("/invocations", content=b"junk", headers={"content-type": "image/png"})
    assert (refused.status_code, refused.json()["error"]) == (415, "FORMAT")
    assert client.get("/ping").content == b""
    assert client.get("/execution-parameters").status_code == 404


def laborious():
    """Small pictures, or files full of nothing, that once kept a server busy for minutes."""
    body = io.BytesIO()
    Image.new("RGB", (4000, 3000), "grey").save(body, "JPEG", progressive=True)
    picture = body.getvalue()
    last, tables = picture.rindex(b"\xff\xda"), picture.index(b"\xff\xdb")
    yield picture[:-2] + picture[last:-2] * 1500 + b"\xff\xd9"
    yield picture[:tables] + b"\xff\xfe\0\2" * 6_000_000 + picture[tables:]
    body = io.BytesIO()
    Image.new("RGB", (64, 48)).save(body, "PNG")
    at = body.getvalue().index(b"IDAT") - 4
    empty = bytes(4) + b"teXt" + zlib.crc32(b"teXt").to_bytes(4, "big")
    yield body.getvalue()[:at] + empty * 2_000_000 + body.getvalue()[at:]


def test_bad_pictures_cost_their_own_requests(finished, serve, images):
    client, _ = serve(finished.model_dir)
    good = (images / "train/red/0.png").read_bytes()

    def status(body):
        return client.post("/invocations", content=body, headers={"content-type": "application/x-image"}).status_code

    with ThreadPoolExecutor() as threads:
        bad, slowest_s, pings = [threads.submit(status, body) for body in laborious() for _ in range(3)], 0.0, set()
        while not all(future.done() for future in bad):
            began = time.monotonic()
            assert status(good) == 200
            pings.add(client.get("/ping").status_code)
            slowest_s = max(slowest_s, time.monotonic() - began)
    assert {future.result() for future in bad} == {413}
    assert pings == {200}
    assert slowest_s < 15  # also on a busy machine; it was minutes


ECHO = """
import sibling

def model_fn(model_dir, context):
    return context.system_properties["model_dir"]

def input_fn(body, content_type):
    return [type(body).__name__, content_type, sibling.NAME]

def predict_fn(data, model, context):
    return data + [model]

def output_fn(prediction, accept):
    import json
    return json.dumps(prediction + [accept])
"""


def test_a_users_handlers_are_called_as_the_toolkit_does(serve, user_model):
    folder = user_model(ECHO)
    (folder / "code" / "sibling.py").write_text("NAME = 'sibling'")
    client, _ = serve(folder)
    text = client.post("/invocations", content=b"{}", headers={"content-type": "application/json"})
    assert text.json() == ["str", "application/json", "sibling", str(folder), "application/json"]
    binary = client.post("/invocations", content=b"{}", headers={"content-type": "image/png", "accept": "x/y"})
    assert binary.json() == ["bytes", "image/png", "sibling", str(folder), "x/y"]
    assert binary.headers["content-type"] == "x/y"


TRANSFORM = """
class Teapot(Exception):
    status_code = 418

def model_fn(model_dir):
    return 2

def transform_fn(model, body, content_type, accept):
    if content_type == "teapot":
        raise Teapot("short and stout")
    if content_type == "bug":
        raise KeyError("secret")
    return body * model, "text/plain"
"""


def test_transform_fn_does_it_all(serve, user_model):
    client, _ = serve(user_model(TRANSFORM))
    answer = client.post("/invocations", content=b"ab", headers={"content-type": "text/plain"})
    assert (answer.content, answer.headers["content-type"]) == (b"abab", "text/plain")

    own_status = client.post("/invocations", content=b"ab", headers={"content-type": "teapot"})
    assert (own_status.status_code, own_status.json()) == (418, {"error": "Teapot", "detail": "short and stout"})
    bug = client.post("/invocations", content=b"ab", headers={"content-type": "bug"})
    assert (bug.status_code, bug.json()["error"]) == (500, "INFERENCE_FAILED")
    garbled = client.post("/invocations", content=b"\xff", headers={"content-type": "application/json"})
    assert garbled.status_code == 400


BATCHES = """
import time

class Odd(Exception):
    status_code = 422

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    return int(body)

def predict_fn(number, model):
    time.sleep(0.02)
    return predict_batch_fn([number], model)[0]

def predict_batch_fn(numbers, model):
    return [Odd("odd") if number % 2 else (number * model, len(numbers)) for number in numbers]

def output_fn(prediction, accept):
    return f"{prediction[0]} of {prediction[1]}", "text/plain"
"""


def test_requests_that_queue_go_through_the_model_together(serve, user_model):
    client, _ = serve(user_model(BATCHES), SAGEMAKER_MODEL_SERVER_WORKERS="4")
    assert client.post("/invocations", content=b"4").text == "8 of 1"

    def together():
        answers = list(threads.map(lambda number: client.post("/invocations", content=b"%d" % number), range(8)))
        assert [answer.status_code for answer in answers] == [200, 422] * 4
        results = [answer.text.split(" of ") for answer in answers[::2]]
        assert [result for result, _ in results] == ["0", "4", "8", "12"]
        return max(int(count) for _, count in results) > 1

    with ThreadPoolExecutor(8) as threads:
        wait_until(together)


def test_a_body_beyond_the_limit_is_refused_while_it_comes(serve, user_model):
    client, _ = serve(user_model(TRANSFORM), SAGEMAKER_MAX_PAYLOAD_IN_MB="1")
    sent = 0

    def body():
        nonlocal sent
        while sent < 100 * 2**20:
            sent += 2**16
            yield b"x" * 2**16

    with contextlib.suppress(httpx.TransportError):  # the server may hang up before the client has read the answer
        assert client.post("/invocations", content=body()).status_code == 413
    assert sent < 50 * 2**20
    assert client.post("/invocations", content=b"x" * 2**20).status_code == 200


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def model_fn(model_dir):\n    raise OSError('weights are gone')", "OSError: weights are gone"),
        ("def model_fn():\n    pass", "model_fn takes 0 arguments; it must take 1, or 2 with `context`"),
        ("def input_fn(a, b): pass\ndef transform_fn(a, b, c, d): pass", "transform_fn and also input_fn"),
        ("import server", "No module named 'server'"),  # what is ours stays out of the model's sight
        ("import network", "No module named 'network'"),
    ],
)
def test_a_model_that_cannot_load_ends_the_process(code, message, user_model, environment):
    command = [sys.executable, str(ML / "serve.py"), "--port", "0"]
    settings = environment | {"SM_MODEL_DIR": str(user_model(code))}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "serve.py: the model could not be loaded: " in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("place", ["inference.py", "model/code/inference.py"])
def test_code_in_another_folder_is_named(place, tmp_path, environment):
    path = tmp_path / "m" / place
    path.parent.mkdir(parents=True)
    path.write_text("def model_fn(model_dir): return 1")
    command = [sys.executable, str(ML / "serve.py"), "--port", "0"]
    settings = environment | {"SM_MODEL_DIR": str(tmp_path / "m")}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S)
    assert f"Code is read from code/inference.py of the archive, which has it in {place}\n" in done.stderr


OWN_ATTRIBUTES = """
def model_fn(model_dir, context):
    return context

def transform_fn(model, body, content_type, accept, context):
    if body == b"bug":
        raise KeyError(body)
    if body == b"own":
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "of the user")
    return "answer", "text/plain"
"""


def test_an_answer_tells_its_model(serve, user_model):
    client, _ = serve(user_model(OWN_ATTRIBUTES), MODEL_CUSTOM_ATTRIBUTES="model=one")

    def attributes(body):
        answer = client.post("/invocations", content=body, headers={"content-type": "image/png"})
        return answer.headers.get_list("x-amzn-sagemaker-custom-attributes")

    assert attributes(b"any") == ["model=one"]
    assert attributes(b"own") == ["of the user"]


def test_an_error_tells_its_model(serve, user_model):
    client, _ = serve(user_model(OWN_ATTRIBUTES), MODEL_CUSTOM_ATTRIBUTES="model=one")
    answer = client.post("/invocations", content=b"bug", headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["answered_by"]) == (500, "model=one")


def test_a_bare_torchscript_file_is_served(serve, tmp_path):
    import torch

    (tmp_path / "m").mkdir()
    with pytest.warns(FutureWarning, match="deprecated"):  # by torch; models of this kind still exist
        traced = torch.jit.trace(torch.nn.Linear(2, 1), torch.zeros(1, 2))
    traced.save(str(tmp_path / "m" / "model.pt"))
    client, _ = serve(tmp_path / "m")
    answer = client.post("/invocations", content=json.dumps([[1, 2]]), headers={"content-type": "application/json"})
    assert len(answer.json()[0]) == 1
    rows = client.post("/invocations", content="1,2\n3,4\n", headers={"content-type": "text/csv", "accept": "text/csv"})
    assert len(rows.text.splitlines()) == 2
    assert client.post("/invocations", content=b"x", headers={"content-type": "image/png"}).status_code == 415
    for kind, body in unreadable().items():
        refused = client.post("/invocations", content=body, headers={"content-type": kind.partition(" ")[0]})
        assert (refused.status_code, refused.json()["error"]) == (400, "Unreadable"), kind
    assert client.get("/ping").status_code == 200


def test_an_array_takes_no_more_than_it_says():
    from server import handlers

    body = unreadable()["application/x-npz lying"]
    tracemalloc.start()
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        handlers.array_of(body, "application/x-npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20


def unreadable():
    """No array is in these, or one that would fill the memory."""
    head = b"\x93NUMPY\1\0\x76\0{'fortran_order': False, "
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write((head + b"'descr': '<f4', 'shape': (80000000,)}").ljust(128))
        for _ in range(300):
            member.write(bytes(2**20))
    # Another size than it has, and a packing that Python unpacks all at once.
    lying = bomb.getvalue().replace(struct.pack("<I", 128 + 300 * 2**20), struct.pack("<I", 128 + 10 * 4))
    lying = lying.replace(b"80000000", b"10      ")
    squeezed = io.BytesIO()
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", (head + b"'descr': '<f4', 'shape': (10,)}").ljust(128) + bytes(40))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    huge, objects = b"'descr': '<f8', 'shape': (1000000000000000,)}", b"'descr': '|O', 'shape': (1,)}"
    return {
        "application/json deep": b"[" * 100_000,
        "application/json large": b"[" + b"9" * 5000 + b"]",
        "application/json words": b'[["a"]]',
        "application/json cut": b"[1,",
        "application/x-npy none": b"no array",
        "application/x-npy huge": (head + huge).ljust(128),
        "application/x-npy objects": (head + objects).ljust(128),
        "application/x-npz none": b"no zip",
        "application/x-npz empty": empty.getvalue(),
        "application/x-npz bomb": bomb.getvalue(),
        "application/x-npz lying": lying,
        "application/x-npz bzip2": squeezed.getvalue(),
    }
