"""A user's training script: nothing but the contract, so that any Python can run it."""

import argparse
import csv
import json
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--optimizer", default="sgd")
parser.add_argument("--train", type=Path, default=os.environ.get("SM_CHANNEL_TRAIN"))
parser.add_argument("--model-dir", type=Path, default=os.environ["SM_MODEL_DIR"])
arguments = parser.parse_args()

with open(arguments.train / "points.csv") as file:
    points = [(float(x), float(y)) for x, y in csv.reader(file)]

slope = 0.0
for epoch in range(arguments.epochs):
    for x, y in points:
        slope += arguments.learning_rate * x * (y - slope * x)
    loss = sum((y - slope * x) ** 2 for x, y in points) / len(points)
    print(f"epoch={epoch} train:loss={loss:.6f}")

checkpoints = Path(os.environ.get("SM_CHECKPOINTS", "/opt/ml/checkpoints"))
(arguments.model_dir / "slope.json").write_text(json.dumps(slope))
seen = {
    "hyperparameters": json.loads(os.environ["SM_HPS"]),
    "channels": json.loads(os.environ["SM_CHANNELS"]),
    "hosts": json.loads(os.environ["SM_HOSTS"]),
    "optimizer": arguments.optimizer,
    "threads": os.environ.get("OMP_NUM_THREADS"),
    "job": json.loads(os.environ["SM_TRAINING_ENV"])["job_name"],
}
(Path(os.environ["SM_OUTPUT_DATA_DIR"]) / "seen.json").write_text(json.dumps(seen))
