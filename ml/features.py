"""What a frozen network sees in each image, computed once: training its head then costs next to nothing.

A frozen ResNet without random augmentation turns an image into the same vector in every epoch. So the images go through
it once, and epochs run over the vectors; the head that is learnt is the one that the long way gives, up to rounding.
"""

import torch

import data
import resnet


def usable(settings, watched):
    """Whether every epoch would compute the same vectors, and nobody wants to watch the layers do it."""
    fixed_images = settings.augment == "none" and not settings.mixup and not settings.start_size
    return settings.trainable == "head" and settings.arch in resnet.LAYERS and fixed_images and not watched


class Features:
    """A channel whose images have become vectors; it stands in for data.Channel."""

    def __init__(self, vectors, labels):
        self.vectors, self.labels = vectors, labels  # (N, width), (N,)

    def __len__(self):
        return len(self.labels)

    def batches(self, batch_size, order=None):
        for chunk in data.chunks(len(self), batch_size, order):
            yield self.vectors[chunk.to(self.vectors.device)], self.labels[chunk]


def extract(network, channel, batch_size, prepare, autocast):
    """The vectors that enter the head of a ResNet; `prepare` makes its input of a batch of pixels."""
    seen = []
    catch = network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    network.eval()
    try:
        with torch.no_grad(), autocast():
            for pixels, _ in channel.batches(batch_size):
                network(prepare(pixels))
    finally:
        catch.remove()
    return Features(torch.cat(seen), channel.labels)
