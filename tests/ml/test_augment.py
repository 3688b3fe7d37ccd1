import pytest
import torch

from dataset import augment


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


@pytest.mark.parametrize("how", ["affine", "crop", "crop+flip", "rand", "rand+affine+crop+flip"])
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


def test_affine_moves_and_turns_within_its_limits_to_all_sides():
    side = 64
    ramp = torch.linspace(64, 191, side)  # two grey levels a pixel, and no clipping at the border in the middle
    flat = torch.full((side, side), 90.0)
    pixels = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), flat], 2)
    pixels = pixels.round().to(torch.uint8).repeat(300, 1, 1, 1)
    changed = augment.augment(pixels, "affine", torch.Generator().manual_seed(0)).float()
    middle = changed[:, 28:36, 28:36]
    level = 127 / (side - 1)  # grey levels a pixel
    for channel in (0, 1):  # from left to right, and from top to bottom
        moved = (middle[..., channel].mean((1, 2)) - 127.5) / level  # px
        assert moved.abs().max() <= augment.AFFINE_SHIFT * side + 0.5
        assert moved.min() < -2 and moved.max() > 2 and abs(moved.mean()) < 0.5
    along = (middle[:, :, -1, 0] - middle[:, :, 0, 0]).mean(1) / (7 * level)  # 1 in an image as it was
    across = (middle[:, -1, :, 0] - middle[:, 0, :, 0]).mean(1) / (7 * level)  # 0
    assert 0.75 < along.min() < 0.95 and 1.05 < along.max() < 1.25
    assert -0.45 < across.min() < -0.2 and 0.2 < across.max() < 0.45
    assert (changed[..., 2] == 90).all()


def test_flips_mirror_about_half_of_the_crops():
    changed = augment.augment(picture(400), "crop+flip", torch.Generator().manual_seed(0)).float()
    mirrored = (changed[:, 16, 0, 0] > changed[:, 16, -1, 0]).float().mean()
    assert 0.4 < mirrored < 0.6


def test_a_crop_is_torchvisions_resized_crop():
    from torchvision.transforms.v2 import functional

    pixels = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
    boxes = augment.crop_boxes(8, 64, 64, torch.Generator().manual_seed(2))
    ours = augment.cut_each(pixels, boxes, 56)
    for image, box, cropped in zip(pixels, boxes.tolist(), ours, strict=True):
        theirs = functional.resized_crop(image.permute(2, 0, 1), *box, [56, 56], antialias=True).permute(1, 2, 0)
        assert (theirs.int() - cropped.int()).abs().max() <= 1


def test_one_image_at_a_time_gives_what_a_whole_batch_gives():
    """The first way is a processor's, the second a GPU's; it does without antialiasing."""
    pixels, boxes = picture(20, 64), augment.crop_boxes(20, 64, 64, torch.Generator().manual_seed(2))
    each, batch = augment.cut_each(pixels, boxes, 56).int(), augment.cut_batch(pixels, boxes, 56).int()
    inner = (slice(None), slice(2, -2), slice(2, -2))  # at the edge the one looks beyond the box, the other does not
    assert (each[inner] - batch[inner]).abs().max() <= 3


def test_crop_boxes_lie_within_the_image_and_vary_as_promised():
    top, left, height, width = augment.crop_boxes(3000, 40, 60, torch.Generator().manual_seed(0)).T
    assert top.min() == 0 and left.min() == 0
    assert (top + height).max() == 40 and (left + width).max() == 60
    assert height.min() >= 1 and width.min() >= 1
    share = (height * width) / (40 * 60)
    assert augment.CROP_AREA[0] - 0.05 < share.min() < 0.45
    assert 0.6 < share.mean() < 0.7


def test_crops_are_taken_from_larger_pictures():
    side = augment.stored_side("crop+flip", 224)
    assert side == 256
    assert augment.stored_side("flip", 224) == 224
    cropped = augment.augment(picture(3, side), "crop+flip", torch.Generator().manual_seed(0), 224)
    assert cropped.shape == (3, 224, 224, 3)


def test_a_shifted_image_repeats_its_border():
    pixels = torch.randint(0, 256, (30, 33, 40, 3), dtype=torch.uint8)
    moved = augment.shift(pixels, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    rows, columns = (torch.randint(-2, 3, (30, 1), generator=generator) for _ in range(2))
    rows, columns = (torch.arange(33) + rows).clamp(0, 32), (torch.arange(40) + columns).clamp(0, 39)
    assert torch.equal(moved, pixels[torch.arange(30)[:, None, None], rows[:, :, None], columns[:, None, :]])


@pytest.mark.parametrize("how", ["shift", "flip", "crop+flip"])
def test_threads_change_no_pixel_and_the_given_images_stay(how):
    given, threads, results = torch.randint(0, 256, (9, 32, 32, 3), dtype=torch.uint8), torch.get_num_threads(), []
    for count in (1, 3):
        torch.set_num_threads(count)
        pixels = given.clone()
        results.append(augment.augment(pixels, how, torch.Generator().manual_seed(5)))
        assert torch.equal(pixels, given)
    torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_a_flip_chooses_between_the_two_views_of_a_frozen_network():
    views = torch.stack([torch.zeros(500, 8), torch.ones(500, 8)], dim=1)
    chosen = augment.augment(views, "flip", torch.Generator().manual_seed(0))
    images = picture(500, 8)
    mirrored = augment.augment(images, "flip", torch.Generator().manual_seed(0))[:, 0, 0, 0] > 128
    assert torch.equal(chosen[:, 0].bool(), mirrored)  # the very images that would have been mirrored
    assert 0.4 < chosen.mean() < 0.6


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
