"""Pretrained weights: from a file or from torchvision to the object that a recipe's `pretrained` names.

Containers never download weights: a run must not depend on a foreign server, and its inputs have digests.

weights_file   which tensors a .pth or .safetensors file holds, found out without torch and without running anything
pickled        torch's own format: which tensors it holds, and that their numbers are there
torchvision    the file that torchvision means by a network's name
staging        the upload, under a name with the digest
"""
