"""An artifact of an earlier version is served by this version's model server, with the code that came with it."""

import base64
import json
import tarfile
from pathlib import Path

import pytest

BEFORE = Path(__file__).parents[1] / "dags/upgrade/before.tar.gz"


@pytest.fixture
def before(tmp_path):
    with tarfile.open(BEFORE) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "before/artifact"
    with tarfile.open(folder / "model.tar.gz") as tar:
        tar.extractall(folder / "model", filter="data")
    return folder


def test_an_earlier_artifact_answers_as_it_did(before, serve):
    client, _ = serve(before / "model")
    picture, answers = (before / "apple.jpg").read_bytes(), json.loads((before / "answers.json").read_text())
    asked = {
        "image/jpeg": picture,
        "application/json": json.dumps({"instances": [base64.b64encode(picture).decode()]}),
    }
    for content_type, body in asked.items():
        answer = client.post("/invocations", content=body, headers={"content-type": content_type})
        assert answer.status_code == 200, answer.text
        given, expected = answer.json(), answers[content_type]
        if content_type == "application/json":
            given, expected = given["predictions"][0], expected["predictions"][0]
        assert given.pop("probabilities") == pytest.approx(expected.pop("probabilities"), abs=1e-5)
        assert given["label"] == expected["label"] == "aquarium_fish"
        assert set(given) == set(expected)
