import pytest
import torch

import augment


def picture(count=6, side=32):
    """Smooth colour gradients, so that a resampled image stays within its neighbours' values."""
    ramp = torch.linspace(0, 255, side)
    image = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.full((side, side), 90.0)], 2)
    return image.round().to(torch.uint8).repeat(count, 1, 1, 1)


@pytest.mark.parametrize("how", ["none", "shift", "flip", "shift+flip"])
def test_augmenting_moves_pixels_but_makes_none_up(how):
    pixels = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    changed = augment.augment(pixels, how, torch.Generator().manual_seed(0))
    assert changed.shape == pixels.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, pixels) == (how == "none")
    assert set(changed.unique().tolist()) <= set(pixels.unique().tolist())


@pytest.mark.parametrize("how", ["crop", "crop+flip", "rand", "rand+crop+flip"])
def test_every_augmentation_keeps_the_form_and_varies_the_images(how):
    pixels = picture()
    changed = augment.augment(pixels, how, torch.Generator().manual_seed(0))
    assert (changed.shape, changed.dtype) == (pixels.shape, torch.uint8)
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 1


@pytest.mark.parametrize("how", [*augment.KINDS, "rand+crop+flip"])
def test_the_same_generator_gives_the_same_images(how):
    first, again, other = (augment.augment(picture(), how, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_crop_shows_a_part_of_the_image_in_its_place():
    changed = augment.augment(picture(64), "crop", torch.Generator().manual_seed(0)).float()
    steps = changed[:, 16, 1:, 0] - changed[:, 16, :-1, 0]
    assert (steps >= 0).all()  # from left to right as before
    spans = changed[:, 16, -1, 0] - changed[:, 16, 0, 0]
    assert 0.5 < spans.max() / 255 <= 1
    assert spans.min() / 255 >= (augment.CROP_AREA[0] * augment.CROP_ASPECT[0]) ** 0.5 - 0.1


def test_flips_mirror_about_half_of_the_crops():
    changed = augment.augment(picture(400), "crop+flip", torch.Generator().manual_seed(0)).float()
    mirrored = (changed[:, 16, 0, 0] > changed[:, 16, -1, 0]).float().mean()
    assert 0.4 < mirrored < 0.6


def test_mixup_blends_images_and_says_how_much():
    images, labels = torch.arange(8.0)[:, None, None, None].expand(8, 3, 4, 4), torch.arange(8)
    blended, others, share = augment.mixed(images, labels, 0.4, torch.Generator().manual_seed(1))
    assert 0 <= share <= 1
    torch.testing.assert_close(blended[:, 0, 0, 0], share * labels + (1 - share) * others)
    shares = [augment.mixed(images, labels, 0.4, torch.Generator().manual_seed(seed))[2] for seed in range(300)]
    assert sum(shares) / 300 == pytest.approx(0.5, abs=0.06)  # Beta(a, a) has the mean 1/2


def test_images_grow_to_their_full_side():
    sides = [augment.side_at(step / 100, 64, 128) for step in range(101)]
    assert sides == sorted(sides)
    assert (sides[0], sides[67], sides[-1]) == (64, 128, 128)
    assert {side % 16 for side in sides} == {0}
    assert augment.side_at(0.1, 0, 128) == 128
    assert augment.resized(torch.randn(2, 3, 128, 128), 64).shape == (2, 3, 64, 64)
