"""A user's PyTorch script that learns nothing, and would go on for ever."""

import time

import smdebug.pytorch as smd
import torch
from torch import nn

hook = smd.get_hook(create_if_not_exists=True)
torch.manual_seed(0)
model, loss_function = nn.Linear(4, 2), nn.CrossEntropyLoss()
hook.register_module(model)
hook.register_loss(loss_function)
hook.set_mode(smd.modes.TRAIN)
xs = torch.randn(64, 4)
ys = (xs[:, 0] > 0).long()
while True:
    loss_function(model(xs), ys).backward()
    time.sleep(0.02)
