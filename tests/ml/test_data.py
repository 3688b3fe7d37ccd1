import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.channel import (
    BY_NAME,
    MEAN,
    MEMORY_BYTES,
    STD,
    BadImage,
    Channel,
    balanced,
    class_names,
    decode,
    normalise,
    to_pixels,
    told,
)


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return buffer.getvalue()


def test_turned_photographs_are_put_upright():
    image = Image.new("RGB", (40, 20), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: rotated by 90 degrees
    assert decode(encoded(image, format="JPEG", exif=exif)).size == (20, 40)


def test_sixteen_bit_samples_are_scaled():
    grey = Image.fromarray(np.full((4, 4), 257 * 100, dtype=np.uint16))
    assert decode(encoded(grey)).getpixel((0, 0)) == (100, 100, 100)


def test_transparent_pixels_show_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decode(encoded(clear)).getpixel((0, 0)) == (255, 255, 255)
    assert decode(encoded(clear.convert("LA"))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGB"])
def test_every_mode_becomes_three_channels(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image = decode(encoded(Image.new(mode, (30, 20)), format=kind))
    assert to_pixels(image, 16).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "FORMAT"),
        (b"<html>not found</html>", "FORMAT"),
        (b"8BPS" + encoded(Image.new("RGB", (8, 8))), "FORMAT"),
        (encoded(Image.effect_noise((64, 64), 90))[:300], "TRUNCATED"),
        (encoded(Image.new("1", (12000, 12000))), "TOO_MANY_PIXELS"),
    ],
)
def test_bad_images_are_refused_by_code(body, code):
    with pytest.raises(BadImage) as caught:
        decode(body)
    assert caught.value.code == code


def test_a_corrupt_file_is_named(images, tmp_path, monkeypatch):
    (tmp_path / "train" / "red").mkdir(parents=True)
    (tmp_path / "train" / "red" / "torn.png").write_bytes((images / "train/red/0.png").read_bytes()[:100])
    for limit in (MEMORY_BYTES, 0):
        monkeypatch.setattr("dataset.channel.MEMORY_BYTES", limit)
        with pytest.raises(BadImage, match=r"'train/red/torn\.png'.*remove it"):
            list(Channel(tmp_path / "train", ["red"], 16).batches(4))


def test_a_folder_that_is_no_class_is_refused(images):
    with pytest.raises(ValueError, match=r"'train' has folders \['red'\].*\['blue', 'green'\]"):
        Channel(images / "train", ["blue", "green"], 16)


def test_an_empty_channel_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        Channel(tmp_path, ["red"], 16)


def photograph(width, height, seed=0):
    """Smooth shapes with some noise, as cameras make them."""
    noise = np.random.default_rng(seed)
    small = Image.fromarray(noise.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    return Image.fromarray((smooth + noise.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "side", "decoded"),
    [
        ((640, 480), 224, (320, 240)),
        ((640, 480), 241, (640, 480)),  # at half its size the short side would be 240
        ((1200, 1000), 100, (150, 125)),
        ((100, 80), 224, (100, 80)),
    ],
)
def test_a_jpeg_comes_smaller_but_not_below_the_wanted_side(size, side, decoded):
    body = encoded(photograph(*size), format="JPEG")
    assert decode(body, side=side).size == decoded
    assert decode(body).size == size


def test_a_jpeg_decoded_for_a_side_shows_the_same_picture():
    body = encoded(photograph(900, 700), format="JPEG", quality=90)
    fast, full = (to_pixels(decode(body, side=side), 224).astype(int) for side in (224, None))
    assert abs(fast - full).mean() < 2  # of 255
    assert abs(fast - full).max() < 16


def test_a_turned_photograph_is_put_upright_at_any_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    body = encoded(photograph(800, 600), format="JPEG", exif=exif)
    assert decode(body, side=150).size == (150, 200)


def test_a_torn_jpeg_is_refused_at_any_size():
    body = encoded(photograph(800, 600), format="JPEG")
    with pytest.raises(BadImage) as caught:
        decode(body[: len(body) // 2], side=64)
    assert caught.value.code == "TRUNCATED"


def test_the_pixel_limit_is_for_the_whole_image_not_the_reduced_one():
    with pytest.raises(BadImage, match="800 x 600"):
        decode(encoded(photograph(800, 600), format="JPEG"), max_pixels=100_000, side=64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_pictures_stay_on_the_gpu_where_they_fit(images, monkeypatch):
    device, classes = torch.device("cuda"), class_names(images / "train")
    channel, order = Channel(images / "train", classes, 16), torch.randperm(24)
    expected = [pixels for pixels, _ in channel.batches(5, order)]
    channel.load(device)
    for pixels, one in zip((pixels for pixels, _ in channel.batches(5, order)), expected, strict=True):
        assert pixels.device.type == "cuda"
        assert torch.equal(pixels.cpu(), one)
    monkeypatch.setattr("dataset.channel.GPU_SHARE", 0)
    refused = Channel(images / "train", classes, 16)
    refused.load(device)
    assert next(refused.batches(5))[0].device.type == "cpu"


def test_labels_follow_the_order_of_the_classes(images):
    channel = Channel(images / "validation", ["red", "green", "blue"], 16)
    assert [path.parent.name for path, label in zip(channel.paths, channel.labels, strict=True) if label == 0] == [
        "red"
    ] * 3


def test_images_too_large_for_memory_give_the_same_batches(images, monkeypatch):
    classes, order = class_names(images / "train"), torch.randperm(24)
    in_memory = Channel(images / "train", classes, 16)
    expected = list(in_memory.batches(5, order))
    monkeypatch.setattr("dataset.channel.MEMORY_BYTES", 0)
    streamed = Channel(images / "train", classes, 16)
    assert (in_memory.loaders, streamed.loaders) == (0, streamed.threads)
    for one, other in zip(expected, streamed.batches(5, order), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_no_batch_holds_a_single_image(images):
    channel = Channel(images / "validation", class_names(images / "validation"), 16)
    assert [len(labels) for _, labels in channel.batches(4)] == [4, 5]


def test_balanced_sampling_shows_rare_classes_as_often_as_common_ones():
    labels = torch.tensor([0] * 40 + [1] * 4 + [2] * 16)
    order = balanced(labels, torch.Generator().manual_seed(0))
    assert torch.bincount(labels[order]).tolist() == [20, 20, 20]
    rare = torch.bincount(order)[40:44]
    assert rare.tolist() == [5, 5, 5, 5]  # each of the four as often as the others
    assert len(order[labels[order] == 0].unique()) == 20  # no common one twice while others wait


def test_normalised_pixels_have_the_promised_scale():
    image = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    expected = [(1 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    assert normalise(image)[0, :, 0, 0].tolist() == pytest.approx(expected)


# -- what lies in a channel besides images ----------------------------------------------------------------------------


@pytest.fixture
def littered(images, tmp_path):
    folder = shutil.copytree(images / "train", tmp_path / "train")
    for name in (".ipynb_checkpoints/0-checkpoint.png", "Thumbs.db", "._0.png", "@eaDir/0.png", "labels.csv"):
        (folder / "red" / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / "red/0.png", folder / "red" / name)
    for name in ("__MACOSX", ".git", "@eaDir"):
        (folder / name).mkdir()
    (folder / "README.md").write_text("# Colours\n")
    return folder


def test_what_systems_and_notebooks_leave_is_no_image(images, littered):
    channel, clean = (Channel(folder, class_names(folder), 16) for folder in (littered, images / "train"))
    assert channel.paths == [littered / path.relative_to(images / "train") for path in clean.paths]
    assert channel.labels.tolist() == clean.labels.tolist()
    assert len(channel.left_out[BY_NAME]) == 9


def test_what_is_no_picture_is_left_out_and_told(littered):
    (littered / "red" / "album.psd").write_bytes(b"8BPS" + bytes(20))
    (littered / "red" / "empty.jpg").touch()
    (littered / "red" / "gone.png").symlink_to("nowhere.png")
    shutil.copyfile(littered / "red/0.png", littered / "loose.png")
    channel = Channel(littered, ["blue", "green", "red"], 16)
    assert len(channel) == 24
    line = told(channel.folder, channel.left_out)
    assert "3 in no format that is read; convert those that are pictures (such as 'red/album.psd')" in line
    assert "1 beside the folders of the classes (such as 'loose.png')" in line


def test_an_image_counts_by_its_first_bytes_not_its_name(littered):
    (littered / "red" / "0.png").rename(littered / "red" / "photo")
    assert len(Channel(littered, ["blue", "green", "red"], 16)) == 24


def test_linked_folders_are_followed_but_not_in_circles(images, tmp_path):
    (tmp_path / "train" / "red").mkdir(parents=True)
    (tmp_path / "train" / "blue").symlink_to(images / "train/blue")
    (tmp_path / "train" / "red" / "more").symlink_to(images / "train/red")
    (tmp_path / "train" / "red" / "again").symlink_to(tmp_path / "train")
    assert Channel(tmp_path / "train", ["blue", "red"], 16).labels.tolist() == [0] * 8 + [1] * 8


def test_a_channel_of_foreign_files_says_what_it_found(tmp_path):
    (tmp_path / "train" / "red").mkdir(parents=True)
    (tmp_path / "train" / "red" / "0.psd").write_bytes(b"8BPS1234WEBP")
    with pytest.raises(ValueError, match=r"holds no images.*1 in no format that is read.*'red/0\.psd'"):
        Channel(tmp_path / "train", ["red"], 16)
