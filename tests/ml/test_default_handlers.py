"""What the containers' inference toolkit and its model servers do where an inference.py leaves it to them."""

ANSWERS = """
def model_fn(model_dir):
    return {"dict": {"label": "größe", "scores": [0.5]}, "list": [1, "a"], "number": 0.25, "none": None, "set": {1}}

def transform_fn(model, body, content_type, accept):
    name = body.decode()
    return (model["dict"], "application/mine") if name == "typed" else model[name]
"""


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
