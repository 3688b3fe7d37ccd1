"""A user's script for ModelTrainer: reads its channel and prints a metric."""

import argparse
import json
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=2)
arguments = parser.parse_args()

lines = Path(os.environ["SM_CHANNEL_TRAIN"], "points.csv").read_text().splitlines()
points = [tuple(map(float, line.split(","))) for line in lines]
slope = 0.0
for epoch in range(arguments.epochs):
    for x, y in points:
        slope += arguments.learning_rate * x * (y - slope * x)
    print(f"epoch={epoch} train:loss={sum((y - slope * x) ** 2 for x, y in points):.6f}")
Path(os.environ["SM_MODEL_DIR"], "slope.json").write_text(json.dumps(slope))
print("entry script:", os.environ.get("SM_ENTRY_SCRIPT"), "hosts:", os.environ["SM_HOSTS"])
