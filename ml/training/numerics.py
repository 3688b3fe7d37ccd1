"""The number format a training computes in, and how its numbers lie in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.settings import Images

# On a processor, converting small tensors costs what computing with them saves: a step of ResNet-18 on 32 px images
# took within a tenth of the same time in both (on a Zen 5 and on a Xeon, both with AVX512_BF16; torch 2.15).
SMALL_IMAGE = 64


def fast_in_bfloat16(cpuinfo: Path | str = "/proc/cpuinfo") -> bool:
    """Whether this processor computes faster in bfloat16 than in float32, going by what it is: the same every time.

    The instructions alone do not tell. All with AVX512_BF16, a step of ResNet-18 at 224 px is 2.6 times faster in
    bfloat16 on a Zen 5, and takes 1.5 times as long on a Xeon without AMX (torch 2.15).
    """
    if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return True
    if not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return False
    try:
        return "AuthenticAMD" in Path(cpuinfo).read_text(encoding="utf-8")
    except OSError:
        return False


def precision(
    wanted: str,
    images: Images,
    device: torch.device,
    needs_float32: bool,
    fast: Callable[[], bool] = fast_in_bfloat16,
) -> torch.dtype:
    """The number format of the forward and backward pass, as --precision wants it.

    Raises ValueError for one this device has not.
    """
    if wanted == "auto":
        if needs_float32:
            return torch.float32
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        # Not only for speed: with 8 px images bfloat16 gradients on a processor vary from run to run, up to NaN
        # (torch 2.15). The first images may be the smallest.
        if min(images.image_size, images.start_size or images.image_size) < SMALL_IMAGE:
            return torch.float32
        return torch.bfloat16 if fast() else torch.float32
    if wanted == "fp16" and device.type == "cpu":
        raise ValueError("--precision fp16 needs a GPU; on this processor use bf16, fp32 or auto")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]


def memory_format(images: Images, device: torch.device) -> torch.memory_format:
    """How weights and images lie in memory: channels last, which convolutions are fastest in, but for small images.

    There a processor has wide layers on a map of few pixels, and each step would rearrange the gradient of each weight:
    with 8 images of 32 px that takes nearly half of a step of ResNet-18 (`make bench-step`).
    """
    small = device.type == "cpu" and images.image_size <= SMALL_IMAGE
    return torch.contiguous_format if small else torch.channels_last


def make_scaler(enabled: bool) -> torch.amp.GradScaler:
    """Keeps float16 gradients from vanishing; when it is not enabled it passes everything through."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)  # torch before 2.3
