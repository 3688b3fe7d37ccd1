"""A channel of tar shards is the channel of the single files, to the bit; what is no such shard is refused by name."""

import json
import shutil
import tarfile

import pytest
import torch

import train
from dataset.array_cache import ArrayCache
from dataset.channel import BESIDE_SHARDS, Channel, class_names, told
from dataset.shards import BadShards
from network import artifact, model
from tests.ml.packed import line, packed, sample, tar, write_index


@pytest.fixture(scope="session")
def shards(images, tmp_path_factory):
    """The channels of `images` as shards."""
    root = tmp_path_factory.mktemp("shards")
    for channel in ("train", "validation"):
        packed(images / channel, root / channel)
    return root


@pytest.fixture
def broken(shards, tmp_path):
    """A channel that a test breaks."""
    return shutil.copytree(shards / "train", tmp_path / "train")


def names(channel):
    return [path.relative_to(channel.folder).as_posix() for path in channel.paths]


def test_shards_are_the_images_in_their_order(images, shards):
    classes = ["red", "blue", "green"]  # of the data set; the index has another order
    one, other = (Channel(root / "train", classes, 16) for root in (images, shards))
    assert names(other) == names(one)
    assert torch.equal(other.labels, one.labels)
    assert other.digests == one.digests
    assert not other.left_out
    assert class_names(shards / "train") == class_names(images / "train")


@pytest.mark.parametrize("kept", ["cache", "memory", "streamed"])
def test_shards_give_the_same_batches(images, shards, tmp_path, monkeypatch, kept):
    if kept == "streamed":
        monkeypatch.setattr("dataset.channel.MEMORY_BYTES", 0)
    caches = [ArrayCache(tmp_path / name, print) if kept == "cache" else None for name in ("a", "b")]
    for cache in filter(None, caches):
        cache.folder.mkdir()
    classes, order = class_names(images / "train"), torch.randperm(24)
    channels = [Channel(r / "train", classes, 16, cache) for r, cache in zip((images, shards), caches, strict=True)]
    for one, other in zip(*(channel.batches(5, order) for channel in channels), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    made = [sorted(path.name for path in cache.folder.iterdir()) for cache in caches if cache]
    assert made in ([], [made[0]] * 2 if made else [])


def test_nothing_is_unpacked(shards, broken):
    list(Channel(broken, class_names(broken), 16).batches(5))
    assert {path.name for path in broken.iterdir()} == {path.name for path in (shards / "train").iterdir()}


TWO = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")


@pytest.mark.parametrize(
    ("how", "launcher"),
    [
        pytest.param({"augment": "shift"}, (), id="all"),
        pytest.param({"trainable": "head", "weights": "channel"}, (), id="head"),
        pytest.param({"augment": "shift"}, TWO, id="two processes", marks=pytest.mark.slow),
    ],
)
def test_shards_train_the_same_model(job_class, images, shards, environment, pretrained, tmp_path, how, launcher):
    """Bit for bit, by the same measures, with the same labels in doubt; what reads a channel by names goes on."""
    jobs = []
    for name, root in (("files", images), ("shards", shards)):
        jobs.append(job_class(tmp_path / name, root, environment | {"RETRAINING_CACHE_DIR": str(tmp_path / name)}))
        jobs[-1].environment["SM_CHANNEL_PRETRAINED"] = str(pretrained)
        (tmp_path / name).mkdir()
        jobs[-1].launcher = launcher
        status, stdout, stderr = jobs[-1].run(**{"deterministic": "true", "seed": 3} | how)
        assert status == 0, stderr
        assert "24 training and 9 validation images of 3 classes" in stdout
    one, other = ([job.model_dir, job.output_dir / "data"] for job in jobs)
    states = [model.read_state(folder / artifact.WEIGHTS) for folder, _ in (one, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for name in ("history.json", "labels.json"):
        assert without_times(one[1] / name) == without_times(other[1] / name)


def without_times(path):
    document = json.loads(path.read_text())
    epochs = document if isinstance(document, list) else [document]
    return [{key: value for key, value in epoch.items() if "second" not in key} for epoch in epochs]


def test_what_lies_beside_shards_is_said(broken):
    (broken / "README").write_text("hello")
    channel = Channel(broken, class_names(broken), 16)
    assert len(channel) == 24
    assert [path.name for path in channel.left_out[BESIDE_SHARDS]] == ["README"]
    assert "1 beside the shards (such as 'README')" in told(channel.folder, channel.left_out)


def test_an_index_of_others_is_no_channel_of_shards(images, tmp_path):
    folder = shutil.copytree(images / "train", tmp_path / "train")
    (folder / "index.json").write_text('{"pages": 3}')
    (folder / "old.tar").touch()
    assert len(Channel(folder, class_names(folder), 16)) == 24


def test_a_training_on_a_damaged_shard_fails_before_it_begins(job, broken, shards, monkeypatch, capsys):
    first = broken / "train-000000.tar"
    body = bytearray(first.read_bytes())
    body[700] ^= 1
    first.write_bytes(body)
    for name, value in job.environment.items():
        if name.startswith(("SM_", "OMP_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(broken))
    assert train.main(["--stem", "small", "--image-size", "16"]) == 1
    assert "'train/train-000000.tar' is damaged" in job.failure
    assert not list(job.model_dir.glob("*"))


# -- what is no shard of ours, while the index tells of it as if all were right ---------------------------------------

PICTURE = b"\x89PNG"
GOOD = sample("0/a.png", PICTURE, 0)


def sized(size):
    """A header that tells another size than its file has, base-256 where octal does not reach."""
    member = tarfile.TarInfo("0/a.png")
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\x80" + size.to_bytes(11, "big", signed=True)[:11] if size >= 0 else b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(2048)


def typed(kind, **members):
    return tar(GOOD[:1], type=kind, **members)


HOSTILE = {
    "a link": (typed(tarfile.SYMTYPE, linkname="/etc/passwd"), "'0/a.png', which is no plain file but of type b'2'"),
    "a hard link": (typed(tarfile.LNKTYPE, linkname="../../x"), "of type b'1'"),
    "a pipe": (typed(tarfile.FIFOTYPE), "of type b'6'"),
    "a device": (typed(tarfile.CHRTYPE), "of type b'3'"),
    "a folder": (tar([("0", b"")], type=tarfile.DIRTYPE), "of type b'5'"),
    "a sparse file": (typed(tarfile.GNUTYPE_SPARSE), "of type b'S'"),
    "a long name": (tar([("0/" + "a" * 120 + ".png", PICTURE)], tarfile.GNU_FORMAT), "of type b'L'"),
    "pax headers": (tar(sample("0/ä.png", PICTURE, 0), tarfile.PAX_FORMAT), "of type b'x'"),
    "the folder above": (tar(sample("../a.png", PICTURE, 0)), "has '../a.png'; expected <number of its class>"),
    "a folder above below": (tar(sample("0/../../a.png", PICTURE, 0)), "has '0/../../a.png'; expected"),
    "an absolute name": (tar(sample("/0/a.png", PICTURE, 0)), "has '/0/a.png'; expected"),
    "no class": (tar(sample("a.png", PICTURE, 0)), "has 'a.png'; expected"),
    "a number with zeros": (tar(sample("00/a.png", PICTURE, 0)), "has '00/a.png'; expected"),
    "no ending": (tar([("0/a", PICTURE)]), "has '0/a'; expected"),
    "two endings": (tar(sample("0/a.b.png", PICTURE, 0)), "has '0/a.b.png'; expected"),
    "an unknown class": (tar(sample("3/a.png", PICTURE, 3)), "has '3/a.png' of class 3; index.json knows 3 classes"),
    "another class": (tar(sample("0/a.png", PICTURE, 1)), "has another class in '0/a.cls' than 0"),
    "a long class": (tar(sample("0/a.png", PICTURE, "0" * 4096)), "has another class in '0/a.cls' than 0"),
    "no class after it": (tar(GOOD[:1]), "has '0/a.png' without its class after it"),
    "another's class after it": (tar([GOOD[0], ("0/b.cls", b"0")]), "has '0/a.png' without its class after it"),
    "no image before it": (tar(GOOD[1:]), "has '0/a.cls' without its image before it"),
    "the same twice": (tar(GOOD + GOOD), "has an image twice, '0/a.png' in train-000000.tar"),
    "two images": (tar(GOOD + sample("0/b.png", PICTURE, 0)), "has 2 images, index.json tells 1"),
    "a huge size": (sized(2**70), f"of {2**70} bytes, where 2048 are left"),
    "a negative size": (sized(-1), "bytes, where 2048 are left"),
    "a cut class": (tar(GOOD)[:1536], "has '0/a.cls' of 1 bytes, where 0 are left"),
    "no end": (tar(GOOD)[:2048], "is cut at byte 2048"),
    "a cut image": (tar(sample("0/a.png", bytes(4000), 0))[:2048], "of 4000 bytes, where 1536 are left"),
    "half a header": (tar(GOOD)[:1300], "is cut at byte 1300"),
    "a picture": (b"\xff\xd8\xff" + bytes(3000), "is no tar file, or damaged at byte 0"),
    "nothing": (b"", "is cut at byte 0"),
    "a web page": (b"<html>" * 600, "is no tar file, or damaged at byte 0"),
    "a compressed one": (b"\x1f\x8b\x08" + bytes(3000), "is no tar file, or damaged at byte 0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_shard_is_refused_by_name(tmp_path, kind):
    body, said = HOSTILE[kind]
    path = tmp_path / "train" / "train-000000.tar"
    path.parent.mkdir()
    path.write_bytes(body)
    write_index(path.parent, {"classes": ["0", "b", "c"], "shardlist": [line(path, said.count("twice") + 1)]})
    with pytest.raises(BadShards) as caught:
        Channel(path.parent, ["0", "b", "c"], 16)
    assert said in str(caught.value)
    assert "train" in str(caught.value)
    assert "sync again" in str(caught.value)


def test_a_cut_shard_is_told_by_its_size(broken):
    path = broken / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(BadShards, match=r"'train/train-000001\.tar' has \d+ bytes, index\.json tells \d+: it was cut"):
        Channel(broken, class_names(broken), 16)


def test_shards_that_are_not_those_of_the_index_are_refused(broken):
    classes = class_names(broken)
    (broken / "train-000001.tar").rename(broken / "train-000009.tar")
    with pytest.raises(BadShards, match=r"lacks 'train-000001\.tar', which its index.json lists.*FullyReplicated"):
        Channel(broken, classes, 16)
    shutil.copyfile(broken / "train-000009.tar", broken / "train-000001.tar")
    with pytest.raises(BadShards, match=r"has 'train-000009\.tar', which its index.json does not list"):
        Channel(broken, classes, 16)


def test_shards_of_other_classes_are_refused(shards):
    with pytest.raises(ValueError, match=r"has classes \['red'\]; the data set's classes are \['blue', 'green'\]"):
        Channel(shards / "train", ["blue", "green"], 16)


def test_shards_without_their_index_are_refused(broken):
    (broken / "index.json").unlink()
    with pytest.raises(BadShards, match=r"channel 'train' holds shards, but no index\.json: No such file"):
        class_names(broken)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"classes": None},
        {"classes": ["a", 7]},
        {"classes": ["a", "../b"]},
        {"classes": ["a", ".."]},
        {"classes": ["a", "a"]},
        {"shardlist": None},
        {"shardlist": [7]},
        {"shardlist": [{"url": "../train-000000.tar", "nsamples": 1, "filesize": 1, "sha256": ""}]},
        {"shardlist": [{"url": "train-000000.tar", "nsamples": "1", "filesize": 1, "sha256": ""}]},
        {"shardlist": [{"url": "train-000000.tar", "nsamples": 1, "filesize": 1, "sha256": ""}] * 2},
        {"shardlist": [{"url": 7, "nsamples": 1, "filesize": 1, "sha256": ""}]},
    ],
    ids=str,
)
def test_an_index_that_is_none_is_refused(broken, changes):
    write_index(broken, json.loads((broken / "index.json").read_text()) | changes)
    with pytest.raises(BadShards, match=r"'train/index\.json'"):
        Channel(broken, ["blue", "green", "red"], 16)


def test_shards_without_an_image_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    write_index(tmp_path / "train", {"classes": ["a"], "shardlist": []})
    with pytest.raises(ValueError, match=r"channel 'train' holds no images: its index\.json lists none"):
        Channel(tmp_path / "train", ["a"], 16)


def test_a_corrupt_image_in_a_shard_is_named(images, tmp_path):
    folder = shutil.copytree(images / "train", tmp_path / "in/train")
    torn = folder / "red/torn.png"
    torn.write_bytes((folder / "red/0.png").read_bytes()[:100])
    channel = Channel(packed(folder, tmp_path / "train"), class_names(folder), 16)
    with pytest.raises(ValueError, match=r"'train/red/torn\.png'.*remove it"):
        list(channel.batches(4))
