"""A user's PyTorch script with SageMaker Debugger's hook, where there is one."""

import json
import os
from pathlib import Path

import torch
from torch import nn

try:
    import smdebug.pytorch as smd

    hook = smd.get_hook(create_if_not_exists=True)
except ImportError:
    hook = None


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


torch.manual_seed(0)
model = network()
loss_function = nn.CrossEntropyLoss()
if hook:
    hook.register_module(model)
    hook.register_loss(loss_function)
    hook.set_mode(smd.modes.TRAIN)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
xs = torch.randn(64, 4)
ys = (xs[:, 0] > 0).long()
for step in range(40):
    optimizer.zero_grad()
    loss = loss_function(model(xs), ys)
    loss.backward()
    optimizer.step()
    print(f"step={step} train:loss={loss.item():.6f}")
trained = network()  # TorchScript cannot hold the hook's functions
trained.load_state_dict(model.state_dict())
torch.jit.script(trained).save(str(Path(os.environ["SM_MODEL_DIR"]) / "model.pt"))
print("hosts:", json.loads(os.environ["SM_HOSTS"]), "rank:", os.environ.get("RANK"))
