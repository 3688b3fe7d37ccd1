"""A training script of the standard library. `epochs` chooses the story: 1 learns nothing, 3 raises, others learn.

Model and metrics have the form of ml/train.py; the "network" is whether it learned at all.
"""

import argparse
import json
import os
import pathlib

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
arguments, _ = parser.parse_known_args()
if arguments.epochs == 3:
    raise RuntimeError("the story of epochs=3 is a script that raises")
classes = json.loads(pathlib.Path(os.environ["SM_CHANNEL_DATASET"], "dataset.json").read_text())["classes"]
for channel in ("SM_CHANNEL_TRAIN", "SM_CHANNEL_VALIDATION"):
    assert {path.parent.name for path in pathlib.Path(os.environ[channel]).rglob("*.png")} == set(classes)
accuracy = 0.33 if arguments.epochs == 1 else 0.99
metrics = f"train:loss=0.2 train:accuracy={accuracy} validation:loss=0.3 validation:accuracy={accuracy}"
print(f"best epoch=1/{arguments.epochs} {metrics} validation:macro_f1={accuracy}", flush=True)
story = {"classes": classes, "epochs": arguments.epochs}
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps(story))
