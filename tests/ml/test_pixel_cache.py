"""The cache of decoded images, with real files, processes and kills."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import array_cache
from dataset.array_cache import ArrayCache
from dataset.channel import BadImage, Channel
from tests.waiting import PATIENCE_S, wait_until

ML = Path(__file__).parents[2] / "ml"
CLASSES = ["blue", "green", "red"]
MAKER = """
import sys, time
import numpy as np
from dataset.array_cache import ArrayCache

folder, marks, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
def make():
    open(marks, "a").write("made\\n")
    for start in range(0, 60, 10):
        yield np.arange(start, start + 10, dtype=np.int32)
        time.sleep(pause)
array = ArrayCache(folder, print).array("numbers", (60,), np.int32, make)
print("got", int(array.sum()), flush=True)
"""
NUMBERS = np.arange(60, dtype=np.int32)


class Cache(ArrayCache):
    """In its own folder; remembers what it said."""

    def __init__(self, folder, **options):
        self.said = []
        super().__init__(folder, self.said.append, **options)

    @property
    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def numbers(self, name="numbers", make=lambda: [NUMBERS]):
        return self.array(name, (60,), np.int32, make)


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "cache").mkdir()
    return Cache(tmp_path / "cache")


def maker(cache, tmp_path, pause=0.0):
    command = [sys.executable, "-c", MAKER, str(cache.folder), str(tmp_path / "marks"), str(pause)]
    return subprocess.Popen(command, cwd=ML, stdout=subprocess.PIPE, text=True)


def never():
    raise AssertionError("it was made again")


def pictures(channel, order=None):
    return torch.cat([pixels for pixels, _ in channel.batches(5, order)])


# -- images -----------------------------------------------------------------------------------------------------------


def test_the_second_training_decodes_nothing(images, cache, monkeypatch):
    order = torch.randperm(24)
    expected = pictures(Channel(images / "train", CLASSES, 16), order)
    assert torch.equal(pictures(Channel(images / "train", CLASSES, 16, cache), order), expected)
    monkeypatch.setattr("dataset.channel.decode", lambda *_, **__: never())
    assert torch.equal(pictures(Channel(images / "train", CLASSES, 16, cache), order), expected)


def test_the_same_images_under_other_names_share_one_file(images, cache, tmp_path):
    for number, path in enumerate(sorted((images / "train").rglob("*.png"), reverse=True)):
        (tmp_path / "copies" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "copies" / path.parent.name / f"{number}.png")
    for folder, classes in ((images / "train", CLASSES), (tmp_path / "copies", CLASSES[::-1])):
        channel = Channel(folder, classes, 16, cache)
        assert torch.equal(pictures(channel), pictures(Channel(folder, classes, 16)))
    assert len(cache.files) == 1


def test_equal_images_are_kept_once(images, cache, tmp_path):
    (tmp_path / "twins" / "red").mkdir(parents=True)
    for name in "ab":
        shutil.copy(images / "train/red/0.png", tmp_path / "twins/red" / f"{name}.png")
    channel = Channel(tmp_path / "twins", ["red"], 16, cache)
    assert len(pictures(channel)) == 2
    assert len(channel.store[0]) == 1


def test_another_side_or_image_makes_another_file(images, cache, tmp_path):
    folder = tmp_path / "train"
    shutil.copytree(images / "train", folder)
    pictures(Channel(folder, CLASSES, 16, cache))
    pictures(Channel(folder, CLASSES, 18, cache))
    shutil.copy(images / "validation/red/0.png", folder / "red/0.png")  # under the name of another
    changed = Channel(folder, CLASSES, 16, cache)
    assert torch.equal(pictures(changed), pictures(Channel(folder, CLASSES, 16)))
    assert len(cache.files) == 3


def test_a_corrupt_image_is_named_and_leaves_nothing_behind(images, cache, tmp_path):
    shutil.copytree(images / "train", tmp_path / "train")
    (tmp_path / "train/red/torn.png").write_bytes((images / "train/red/0.png").read_bytes()[:100])
    with pytest.raises(BadImage, match=r"'train/red/torn\.png'.*remove it"):
        pictures(Channel(tmp_path / "train", CLASSES, 16, cache))
    assert cache.files == []


def test_an_image_that_changes_meanwhile_is_not_kept_under_its_old_digest(images, cache, tmp_path):
    shutil.copytree(images / "train", tmp_path / "train")
    channel = Channel(tmp_path / "train", CLASSES, 16, cache)
    assert len(channel.digests) == 24
    shutil.copy(images / "validation/red/0.png", tmp_path / "train/red/0.png")
    with pytest.raises(ValueError, match=r"'train/red/0\.png' was changed while it was read"):
        pictures(channel)
    assert cache.files == []


def test_a_training_does_without_a_cache_it_cannot_use(job, tmp_path):
    (tmp_path / "file").write_text("no folder")
    job.environment["RETRAINING_CACHE_DIR"] = str(tmp_path / "file")
    status, stdout, stderr = job.run(epochs=1)
    assert status == 0, stderr
    assert "no cache: " in stdout and "name another folder by --cache-dir, or none" in stdout


# -- the folder -------------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's temporary folder, and no warm pool."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(array_cache, "WARM_POOL", tmp_path / "warm")
    return tmp_path / f"retraining-cache-{os.geteuid()}"


def test_by_default_the_folder_is_the_users_own(temporary):
    assert array_cache.open_cache(None, never).folder == temporary
    assert temporary.stat().st_mode & 0o777 == 0o700
    assert array_cache.open_cache(None, never).folder == temporary  # the second time too


@pytest.mark.parametrize("kind", ["open to all", "link", "file"])
def test_a_folder_that_others_could_have_filled_is_not_used(temporary, tmp_path, kind):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if kind == "link":
        temporary.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        temporary.write_text("")
    else:
        temporary.mkdir()
        temporary.chmod(0o777)
    said = []
    assert array_cache.open_cache(None, said.append) is None
    assert "not this user's own folder" in said[0] and str(temporary) in said[0]


def test_a_warm_pool_is_used_where_there_is_one(temporary):
    array_cache.WARM_POOL.mkdir()
    assert array_cache.open_cache(None, never).folder == array_cache.WARM_POOL


def test_a_named_folder_is_made_and_none_means_none(temporary, tmp_path):
    assert array_cache.open_cache(str(tmp_path / "a/b"), never).folder == tmp_path / "a/b"
    assert (tmp_path / "a/b").is_dir()
    assert array_cache.open_cache("none", never) is None


# -- several at once --------------------------------------------------------------------------------------------------


def test_of_several_at_once_one_makes_and_all_get_it(cache, tmp_path):
    processes = [maker(cache, tmp_path, pause=0.05) for _ in range(4)]
    assert [process.communicate(timeout=PATIENCE_S)[0].splitlines()[-1] for process in processes] == ["got 1770"] * 4
    assert (tmp_path / "marks").read_text() == "made\n"
    assert cache.files == ["numbers.array"]


def test_what_a_killed_maker_left_is_taken_over(cache, tmp_path):
    process = maker(cache, tmp_path, pause=30)
    wait_until((tmp_path / "marks").exists)
    assert cache.files == ["numbers.partial"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert np.array_equal(cache.numbers(), NUMBERS)
    assert cache.files == ["numbers.array"]
    assert cache.said == []


def test_who_waits_takes_over_when_the_maker_is_killed(cache, tmp_path):
    process = maker(cache, tmp_path, pause=30)
    wait_until((tmp_path / "marks").exists)
    waiting = threading.Thread(target=cache.numbers)
    waiting.start()
    wait_until(lambda: cache.said)
    process.kill()
    process.communicate()
    waiting.join(PATIENCE_S)
    assert cache.said == ["another training makes what this one needs; waiting for it"]
    assert np.array_equal(cache.numbers(make=never), NUMBERS)


def test_nobody_waits_for_a_maker_that_stands_still(cache, tmp_path, monkeypatch):
    process = maker(cache, tmp_path, pause=30)
    wait_until((tmp_path / "marks").exists)
    monkeypatch.setattr(array_cache, "PATIENCE_S", 0.2)
    assert cache.numbers() is None
    assert "writes nothing any more" in cache.said[-1]
    process.kill()
    process.communicate()


def test_killed_leftovers_of_others_are_swept(cache):
    (cache.folder / "old.partial").write_bytes(b"x" * 1000)
    cache.numbers()
    assert cache.files == ["numbers.array"]


# -- damage, and full disks -------------------------------------------------------------------------------------------


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda path: os.truncate(path, 100),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(path.read_bytes()[:-4] + b"oops"),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ],
    ids=["bit", "cut", "empty", "checksum", "zeros"],
)
def test_a_damaged_file_is_found_and_made_anew(cache, damage):
    cache.numbers()
    damage(cache.folder / "numbers.array")
    assert np.array_equal(cache.numbers(), NUMBERS)
    assert cache.said == [f"{cache.folder / 'numbers.array'} is damaged; it is made anew"]
    assert np.array_equal(Cache(cache.folder).numbers(make=never), NUMBERS)


@contextlib.contextmanager
def largest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("reserves", [True, False])
def test_where_the_disk_takes_no_more_training_goes_on_from_memory(images, cache, monkeypatch, reserves):
    expected = pictures(Channel(images / "train", CLASSES, 16))
    if not reserves:  # the writing itself fails, as on file systems that cannot reserve
        monkeypatch.setattr(array_cache, "allocate", lambda file, size: None)
    with largest_file(5000):
        channel = Channel(images / "train", CLASSES, 16, cache)
        assert torch.equal(pictures(channel), expected)
    assert f"the cache in {cache.folder} is not used: " in cache.said[0]
    assert cache.files == []


def test_the_least_recently_used_makes_room(tmp_path):
    cache = Cache(tmp_path, limit_bytes=800)  # three of 244 bytes
    for position, name in enumerate("abc"):
        cache.numbers(name)
        os.utime(tmp_path / f"{name}.array", (position, position))
    cache.numbers("a", make=never)  # now b is the oldest
    cache.numbers("d")
    assert cache.files == ["a.array", "c.array", "d.array"]


def test_what_is_in_use_is_not_deleted(tmp_path):
    cache = Cache(tmp_path, limit_bytes=300)
    used = torch.from_numpy(np.asarray(cache.numbers("a")).copy())
    holding = cache.numbers("a", make=never)
    assert cache.numbers("b") is None
    assert "do not fit beside what other trainings use" in cache.said[-1]
    assert cache.files == ["a.array"] and torch.equal(torch.tensor(holding.tolist()), used.long())
    del holding
    assert cache.numbers("b") is not None
    assert cache.files == ["b.array"]


def test_what_never_fits_drives_nothing_out(tmp_path):
    cache = Cache(tmp_path, limit_bytes=300)
    cache.numbers("a")
    assert cache.array("huge", (1000,), np.int32, never) is None
    assert "do not fit" in cache.said[-1]
    assert cache.files == ["a.array"]
