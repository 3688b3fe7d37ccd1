"""A user's inference script: the answer of the line that train.py fitted."""

import json
import os


def model_fn(model_dir):
    with open(os.path.join(model_dir, "slope.json")) as file:
        return json.load(file)


def input_fn(body, content_type):
    assert content_type == "application/json", content_type
    return json.loads(body)


def predict_fn(xs, slope):
    return [slope * x for x in xs]


def output_fn(prediction, accept):
    return json.dumps(prediction), accept
