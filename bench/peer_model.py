"""ResNet-18 as bench/serving.py puts it behind TorchServe, whose handler this file is, and LitServe. In .venv/peers.

Both compute with torch in float32 (MODEL_PRECISION=bf16: in bfloat16 and channels_last), prepare pictures as
ml/pictures/picture.py does, read the weights from MODEL_WEIGHTS, and answer {"logits": […]}; a constant without
MODEL_WEIGHTS.
"""

import io
import json
import os


class ResNet:
    def __init__(self):
        import torch
        import torchvision

        self.torch = torch
        state = torch.load(os.environ["MODEL_WEIGHTS"], weights_only=True)
        network = torchvision.models.resnet18(num_classes=len(state["fc.bias"]))
        network.load_state_dict(state)
        reduced = os.environ.get("MODEL_PRECISION") == "bf16"
        self.layout = {"dtype": torch.bfloat16, "memory_format": torch.channels_last} if reduced else {}
        self.network = network.eval().to(**self.layout)
        self.mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
        self.std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)

    def answer(self, body):
        import numpy as np
        from PIL import Image, ImageOps

        image = Image.open(io.BytesIO(body))
        image.draft(None, (224, 224))
        pixels = np.array(ImageOps.fit(image.convert("RGB"), (224, 224), Image.Resampling.BILINEAR))
        tensor = self.torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255).sub_(self.mean).div_(self.std)
        with self.torch.inference_mode():
            logits = self.network(tensor[None].to(**self.layout))
        return {"logits": logits[0].float().tolist()}


class Nothing:
    def answer(self, body):
        return {"logits": [0.0]}


def make_model():
    return ResNet() if "MODEL_WEIGHTS" in os.environ else Nothing()


model = None


def handle(data, context):
    """TorchServe's entry: called once with None to load, then with lists of requests."""
    global model
    if data is None:
        model = make_model()
        return None
    return [json.dumps(model.answer(bytes(row.get("body") or row.get("data")))) for row in data]
