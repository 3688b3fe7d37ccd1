"""Pickles and files of weights that strangers made: plain values, or a refusal in words; never a crash, never long."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from retraining.dataset.public.cifar import CIFAR_100, write_cifar
from retraining.plain_pickle import MAX_STEPS, PickleRefused, load
from retraining.pretrained.weights_file import WeightsError, read_weights_file

PLUGINS = Path(__file__).parents[2] / "plugins"
FINE = [b"apple", b"worm"]
META = pickle.dumps({b"fine_label_names": FINE, b"coarse_label_names": [b"fruit"]}, protocol=2)

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tU\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02%bK\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array(kind: bytes = DTYPE % b"u1", shape: bytes = b"K\x01M\x00\x0c\x86", body: bytes = b"U\x03abc") -> bytes:
    return RECONSTRUCT + b"(K\x01" + shape + kind + b"\x89" + body + b"tb"


def split(data: bytes, labels: bytes = b"]K\x00a", names: bytes = b"]U\x01aa") -> bytes:
    return b"\x80\x02}(U\x04data" + data + b"U\x0bfine_labels" + labels + b"U\x09filenames" + names + b"u."


FULL = b"T\x00\x0c\x00\x00" + bytes(3072)
ATTACKS: dict[str, bytes] = {
    "an array of objects": split(array(DTYPE.replace(b"U\x02%b", b"U\x01O") % (), body=b"U\x08" + b"A" * 8)),
    "an array of pointers": split(array(DTYPE % b"O8", shape=b"K\x01\x85", body=b"U\x08" + b"A" * 8)),
    "a record": split(array(DTYPE.replace(b"|NNN", b"|N(U\x01at}U\x01a(NK\x00ts") % b"V8")),
    "a subarray": split(array(DTYPE.replace(b"|NNN", b"|(NK\x01tNN") % b"u1", body=FULL)),
    "hostile numbers in a dtype": split(array(DTYPE.replace(b"K\x03", b"J\xff\xff\xff\x7f") % b"f8")),
    "a dtype that is called with an array": split(array(b"cnumpy\ndtype\n" + array() + b"\x85R")),
    "no bytes behind a large shape": split(array(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")),
    "a negative shape": split(array(shape=b"J\xff\xff\xff\xffJ\x00\xf4\xff\xff\x86", body=FULL)),
    "a shape of sixty digits": split(array(shape=b"\x8a\x1e" + b"\x7f" * 30 + b"K\x00\x86", body=b"U\x00")),
    "an array without content": split(RECONSTRUCT),
    "a state that is set twice": split(array() + b"Nb"),
    "a state of slots": split(RECONSTRUCT + b"N}(U\x01aK\x01u\x86b"),
    "ndarray called directly": split(b"cnumpy\nndarray\n((K\x01t)tR"),
    "any other call": b"cbuiltins\neval\n(V1\ntR.",
    "a call by parts of names": b"\x80\x04\x8c\x08builtins\x8c\x06getattr\x93.",
    "a call of what it made": b"K\x01)R.",
    "new objects": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "old instances": b"(inumpy\nndarray\n.",
    "objects of Python 2": b"(cnumpy\nndarray\no.",
    "codes of copyreg": b"\x80\x02\x82\x01.",
    "something outside": b"\x80\x02K\x01Q.",
    "something outside by name": b"P1\n.",
    "tuples doubled sixty times": b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b".",
    "tuples doubled as a key": b"}" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"K\x01s.",
    "tuples in a million tuples": b")" + b"\x85" * 1_000_000 + b".",
    "a million tuples as a key": b"})" + b"\x85" * 1_000_000 + b"K\x01s.",
    "a list in itself": b"]q\x00h\x00a.",
    "a dictionary in itself": b"}q\x00U\x01ah\x00s.",
    "three million dictionaries": b"}" * 3_000_000 + b".",
    "three million marks": b"(" * 3_000_000 + b".",
    "copies without end": b"K\x01" + b"2" * 3_000_000 + b".",
    "copies that are dropped": b"K\x01" + b"20" * 3_000_000 + b".",
    "a memo without end": b"K\x01" + b"".join(b"r" + struct.pack("<I", n) for n in range(2_100_000)) + b".",
    "a memo that is not there": b"j\xff\xff\xff\xff.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "a long of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "a long of a million bytes": b"\x8b\x40\x42\x0f\x00" + b"\x7f" * 1_000_000 + b".",
    "a long of two gigabytes": b"\x8b\xff\xff\xff\x7f.",
    "a negative length": b"T\xff\xff\xff\xff.",
    "a text of exabytes": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "a frame of exabytes": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "a buffer from elsewhere": b"\x80\x05\x97.",
    "protocol 200": b"\x80\xc8N.",
    "pairs of one list, many times": b"]q\x00("
    + b"K\x01K\x02\x86" * 1000
    + b"e0"
    + b"ccollections\nOrderedDict\nh\x00\x85R0" * 100_000
    + b".",
    "a million names of one text": split(
        array(body=FULL), names=b"](U\xff" + b"a" * 255 + b"q\x00" + b"h\x00" * 1_000_000 + b"e"
    ),
    "a name of ten million letters": split(array(body=FULL), names=b"]X\x80\x96\x98\x00" + b"a" * 10_000_000 + b"a"),
    "one text as bytes, again and again": b"X\x40\x42\x0f\x00"
    + b"a" * 1_000_000
    + b"q\x000"
    + b"c_codecs\nencode\nh\x00U\x06latin1\x86R" * 10_000
    + b".",
    "an endless line": b"S'" + b"a" * 10_000_000,
    "a set": b"\x80\x04\x8f.",
    "nothing": b"",
    "an end alone": b".",
    "ends within a number": b"\x80\x02J\x01",
    "pops from nothing": b"0.",
}

RUN = """
import json, resource, sys, time
from pathlib import Path
from retraining.dataset.public.cifar import CIFAR_100, write_cifar
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
for folder in sorted(Path(sys.argv[1]).iterdir()):
    begin = time.process_time()
    try:
        answer = str(write_cifar(CIFAR_100, folder, folder / "out"))
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps([folder.name, answer, time.process_time() - begin]), flush=True)
# Not ru_maxrss, which begins with what the parent had.
print(json.dumps(["peak", "", int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024]))
"""


def cifar(folder: Path, train: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, body in {"meta": META, "train": train, "test": train}.items():
        (folder / name).write_bytes(body)
    return folder


@pytest.mark.slow
def test_no_pickle_crashes_or_hangs_the_worker(tmp_path: Path) -> None:
    for number, body in enumerate(ATTACKS.values()):
        cifar(tmp_path / f"{number:03d}", body)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    *answers, (_, _, peak_mb) = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(ATTACKS)
    wrong = {}
    for what, (_, answer, seconds) in zip(ATTACKS, answers, strict=True):
        if not answer.startswith("SourceError: train") or len(answer) > 500 or seconds > 10:
            wrong[what] = (answer[:300], seconds)
    assert wrong == {}
    assert peak_mb < 900


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("keys", [bytes, str])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_archive_that_python_3_wrote_again_is_read(tmp_path: Path, protocol: int, keys: type, order: Any) -> None:
    pixels = numpy.asarray(numpy.random.default_rng(1).integers(0, 256, (2, 3072), dtype=numpy.uint8), order=order)
    content = {"data": pixels, "fine_labels": [1, 0], "filenames": [b"a.png", b"b.png"]}
    named = {name.encode() if keys is bytes else name: value for name, value in content.items()}
    folder = cifar(tmp_path / "set", pickle.dumps(named, protocol))
    assert write_cifar(CIFAR_100, folder, tmp_path / "out") == 4
    from PIL import Image

    written = numpy.asarray(Image.open(tmp_path / "out/train/worm/0000000_a.png"))
    assert (written == pixels[0].reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_random_damage_is_refused_or_harmless() -> None:
    noise = numpy.random.default_rng(5)
    whole = pickle.dumps({b"data": numpy.zeros((1, 3072), numpy.uint8), b"fine_labels": [0]}, 2)[:200] + b"u."
    for _ in range(3000):
        body = bytearray(whole)
        for at in noise.integers(0, len(body), noise.integers(1, 8)):
            body[at] = noise.integers(0, 256)
        try:
            load(io.BytesIO(bytes(body)), {("numpy", "dtype")}, "array")
        except PickleRefused:
            continue


@pytest.mark.slow
def test_what_does_not_end_is_given_up() -> None:
    with pytest.raises(PickleRefused, match=f"takes more than {MAX_STEPS:,} steps"):
        load(io.BytesIO(b"N0" * MAX_STEPS), set(), "tensor")


# --- weights ----------------------------------------------------------------------------------------------------------


def tensor(
    shape: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (3, 1), offset: int = 0, items: int = 6, key: str = "0"
) -> bytes:
    def number(value: int) -> bytes:
        return b"L%dL\n" % value

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    identity = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key.encode()
    identity += b"X\x03\0\0\0cpu" + number(items) + b"tQ"
    arguments = b"(" + identity + number(offset) + numbers(shape) + numbers(strides) + b"\x89}t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def state(*tensors: bytes) -> bytes:
    named = b"".join(b"X\x01\0\0\0" + b"%c" % (97 + n) + body + b"s" for n, body in enumerate(tensors))
    return b"\x80\x02}" + named + b"."


def weights(path: Path, pickled: bytes, data: dict[str, bytes] | None = None, how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("w/data.pkl", pickled)
        for name, body in (data or {"0": bytes(24)}).items():
            archive.writestr(f"w/data/{name}", body)
    return path


def test_weights_as_they_should_be_are_read(tmp_path: Path) -> None:
    path = weights(
        tmp_path / "w.pth", state(tensor(), tensor((3, 2), (1, 3)), tensor((), (), 5), tensor((0, 9), (9, 1)))
    )
    assert read_weights_file(path).shapes == {"a": (2, 3), "b": (3, 2), "c": (), "d": (0, 9)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pickled", "complaint"),
    [
        (state(tensor((2, 4), (4, 1))), "of 8 numbers does not lie within its 6"),
        (state(tensor((2, 3), (4, 1))), "does not lie within"),
        (state(tensor(offset=1)), "does not lie within"),
        (state(tensor((10**12,), (0,))), "of 1000000000000 numbers does not lie within its 6"),
        (state(tensor((-1, -6))), "no proper shape"),
        (state(tensor(offset=-1)), "no proper shape"),
        (state(tensor((2, 3), (-3, 1))), "no proper shape"),
        (state(tensor((2, 3), (3,))), "no proper shape"),
        (state(tensor((1,) * 65, (1,) * 65)), "no proper shape"),
        (state(tensor(items=2**50)), "no proper size"),
        (state(tensor(items=10**35)), "no proper size"),
        (state(tensor(items=7)), "tensor data 0 has 24 bytes instead of 28"),
        (state(tensor(), tensor(items=7)), "described in two ways"),
        (state(tensor(key="../../etc/passwd")), r"has no entry instead of 24"),
        (state(tensor(key="1")), "tensor data 1 has no entry"),
        (b"\x80\x02)" + b"\x85" * 1_000_000 + b".", "it holds one tuple"),
        (b"\x80\x02}(K\x01K\x02u.", "1 is no tensor"),
        (state(b"ccollections\nOrderedDict\n(K\x01tR"), "made of what is no list"),
        (state(b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01tR"), "'a' is no tensor"),
    ],
)
def test_a_tensor_lies_within_its_data(tmp_path: Path, pickled: bytes, complaint: str) -> None:
    with pytest.raises(WeightsError, match=complaint):
        read_weights_file(weights(tmp_path / "w.pth", pickled))


def overlapping(path: Path) -> None:
    """Two entries of the list, one run of bytes."""
    body = bytearray(weights(path, state(tensor(), tensor(key="1")), {"0": bytes(24), "1": bytes(24)}).read_bytes())
    first, second = (body.rindex(b"PK\x01\x02", 0, body.rindex(b"w/data/" + key)) for key in (b"0", b"1"))
    body[second + 42 : second + 46] = body[first + 42 : first + 46]
    path.write_bytes(body)


def many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w", b"")
    body = path.read_bytes()
    at = body.index(b"PK\x01\x02")
    end = body.index(b"PK\x05\x06")
    entries = body[at:end] * 250_000
    path.write_bytes(body[:at] + entries + body[end : end + 12] + struct.pack("<IIH", len(entries), at, 0))


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", state(tensor()))
        archive.writestr("w/data.pkk", state())
    path.write_bytes(path.read_bytes().replace(b"data.pkk", b"data.pkl"))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (overlapping, "overlaps"),
        (many, r"more than 200,000 entries"),
        (twice, "two of its entries have one name"),
        (lambda path: weights(path, state(), {"0": bytes(10**8)}, zipfile.ZIP_DEFLATED), "is compressed"),
        (lambda path: weights(path, b"N" * (64 * 2**20 + 1)), "its pickle has 67108865 bytes"),
    ],
)
def test_a_zip_that_lies_is_refused(tmp_path: Path, make: Callable[[Path], object], complaint: str) -> None:
    make(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=complaint):
        read_weights_file(tmp_path / "w.pth")


def test_a_pickle_before_its_tensors_is_as_bounded(tmp_path: Path) -> None:
    """torch's older format has no list of what is in it; a text of a pickle takes several times its bytes."""
    path, size = tmp_path / "w.pth", 64 * 2**20
    before = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    with path.open("wb") as file:
        file.write(b"".join(before) + b"\x80\x02\x8d" + struct.pack("<Q", size))
        file.truncate(file.tell() + size)
        file.seek(0, os.SEEK_END)
        file.write(b".")
    with pytest.raises(WeightsError, match="it has over 67,108,864 bytes"):
        read_weights_file(path)


def safetensors(path: Path, text: str, size: int = 24) -> Path:
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(size))
    return path


def entry(begin: int = 0, end: int = 24, shape: str = "[2, 3]") -> str:
    return f'{{"dtype": "F32", "shape": {shape}, "data_offsets": [{begin}, {end}]}}'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f'{{"a": {entry()}, "b": {entry()}}}', "'b' begins at byte 0, where 24 is the next"),
        (f'{{"a": {entry()}, "a": {entry()}}}', "a name is in its header twice"),
        (f'{{"a": {entry(4, 28)}}}', "begins at byte 4, where 0 is the next"),
        (f'{{"a": {entry(shape="[-2, -3]")}}}', "no proper shape"),
        (f'{{"a": {entry(shape="[2.0, 3]")}}}', "no proper shape"),
        (f'{{"a": {entry(shape="[0, " + "9" * 4000 + "]")}}}', "no proper shape"),
        (f'{{"a": {entry(shape="[" + "9" * 5000 + "]")}}}', "4300 digits"),
        (f'{{"a": {entry(shape=str([1] * 70))}}}', "no proper shape"),
        ('{"a":' * 100_000, "recursion"),
        ("[" * 100_000, "recursion"),
        ("[]", "no object"),
        ("7", "no object"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(WeightsError, match=complaint):
        read_weights_file(safetensors(tmp_path / "w.safetensors", text))
