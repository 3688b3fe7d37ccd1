"""What the containers' inference toolkit and its model servers do where an inference.py leaves it to them."""

import io

import numpy as np
import pytest
import torch

from server.handlers import default_input, default_model, default_output, default_predict

ANSWERS = """
def model_fn(model_dir):
    return {"dict": {"label": "größe", "scores": [0.5]}, "list": [1, "a"], "number": 0.25, "none": None, "set": {1}}

def transform_fn(model, body, content_type, accept):
    name = body.decode()
    return (model["dict"], "application/mine") if name == "typed" else model[name]
"""


def npy(array):
    body = io.BytesIO()
    np.save(body, array)
    return body.getvalue()


def test_answer_that_is_no_text_is_json(serve, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(ANSWERS)
    client, _ = serve(tmp_path)

    def ask(name):
        return client.post("/invocations", content=name, headers={"content-type": "x/y", "accept": "application/json"})

    assert ask("dict").json() == {"label": "größe", "scores": [0.5]}
    assert [ask(name).text for name in ("number", "none")] == ["0.25", "null"]
    assert ask("list").text == '[\n  1,\n  "a"\n]'  # as TorchServe and MMS indent it
    assert (ask("typed").headers["content-type"], ask("typed").json()) == ("application/mine", ask("dict").json())
    refused = ask("set")
    assert (refused.status_code, refused.json()["error"]) == (500, "INFERENCE_FAILED")
    assert "is a set, which is neither text nor bytes nor JSON" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        (["cat", 0.93, True], '["cat", 0.93, true]'),
        ([1, 2.5], "[1, 2.5]"),
        ([[1], [1, 2]], "[[1], [1, 2]]"),
        (
            {"score": np.float32(0.5), "box": np.arange(2), "of": torch.ones(1)},
            '{"score": 0.5, "box": [0, 1], "of": [1.0]}',
        ),
        (torch.ones(1, 2, requires_grad=True), "[[1.0, 1.0]]"),
        (np.int64(3), "3"),
    ],
)
def test_json_keeps_what_was_predicted(prediction, text):
    assert default_output(prediction, "application/json") == (text, "application/json")


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        (torch.tensor([0.5, 2.0]), "0.5\n2.0\n"),
        (torch.tensor([[1, 2], [3, 4]]), "1,2\n3,4\n"),
        ([["cat", 0.5]], "cat,0.5\n"),
        (np.float32(7), "7.0\n"),
    ],
)
def test_csv_has_a_line_for_each_prediction(prediction, text):
    assert default_output(prediction, "text/csv") == (text, "text/csv")


@pytest.mark.parametrize("kind", ["int64", "float64", "float32", "bool"])
def test_array_sent_as_npy_keeps_its_type(kind):
    assert str(default_input(npy(np.ones((2, 2), kind)), "application/x-npy").dtype) == f"torch.{kind}"
    assert default_input("[[1, 2]]", "application/json").dtype == torch.float32


def test_model_predicts_in_evaluation_mode():
    model = torch.nn.Dropout(0.5)
    assert model.training
    assert default_predict(torch.ones(100), model).tolist() == [1.0] * 100
    assert default_predict(1, lambda data: data + 1) == 2


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:FutureWarning")
def test_model_pt_goes_before_other_files(tmp_path):
    for name, value in {"model.pt": 1.0, "best.pth": 2.0}.items():
        with pytest.warns(FutureWarning, match="deprecated"):  # by torch; models of this kind still exist
            traced = torch.jit.trace(lambda data, value=value: data * value, torch.ones(1))
        traced.save(str(tmp_path / name))
    assert default_model(str(tmp_path))(torch.ones(1)).item() == 1.0
    (tmp_path / "model.pt").rename(tmp_path / "last.pt")
    with pytest.raises(ValueError, match="there are 2"):
        default_model(str(tmp_path))
