"""A user's distributed script: adds one number of each rank."""

import os

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
number = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(number)
print("host", os.environ["SM_CURRENT_HOST"], "rank", dist.get_rank(), "of", dist.get_world_size())
if dist.get_rank() == 0:
    print(f"sum over the ranks: {number.item()}")
dist.destroy_process_group()
