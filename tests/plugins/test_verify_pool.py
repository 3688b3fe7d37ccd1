"""A picture that is too much for its decoder costs itself, not the run."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from retraining.dataset.pictures.pool import verify_files
from retraining.dataset.pictures.verdict import Rejected, VerifiedImage
from retraining.dataset.pictures.worker import LIMITS, Limits
from retraining.dataset.source_error import SourceError
from retraining.dataset.stamp import stamp_of


def picture(path: Path, size: tuple[int, int] = (32, 32), mode: str = "L") -> Path:
    """Coarse where it is large, so that its file is small."""
    noise = Image.effect_noise((min(size[0], 300), min(size[1], 300)), 90).convert(mode)
    noise.resize(size, Image.Resampling.NEAREST).save(path, "PNG")
    return path


def code(verdict: object) -> str:
    return verdict.code if isinstance(verdict, Rejected) else type(verdict).__name__


def children() -> list[int]:
    """Of all threads."""
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def test_verdicts_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{number}.png") for number in range(150)]
    paths[7].write_bytes(b"<html>")
    found = verify_files(paths, tmp_path)
    assert [code(verdict) for verdict, _ in found] == ["VerifiedImage"] * 7 + ["NOT_IMAGE"] + ["VerifiedImage"] * 142
    assert [stamp for _, stamp in found] == [stamp_of(path.stat()) for path in paths]


def test_no_process_is_left(tmp_path: Path) -> None:
    others = children()
    verify_files([picture(tmp_path / "a.png")], tmp_path)
    assert children() == others


def test_names_of_any_bytes_reach_the_process(tmp_path: Path) -> None:
    names = [b"line\nbreak.png", b"latin-\xe9.png", "हिंदी.png".encode(), b'quote".png']
    paths = [picture(tmp_path / os.fsdecode(name)) for name in names]
    assert [code(verdict) for verdict, _ in verify_files(paths, tmp_path)] == ["VerifiedImage"] * 4


@pytest.mark.slow
def test_a_picture_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    paths = [
        picture(tmp_path / "good.png"),
        picture(tmp_path / "slow.png", (9000, 9000)),
        picture(tmp_path / "next.png"),
    ]
    found = verify_files(paths, tmp_path, Limits(memory_bytes=LIMITS.memory_bytes, cpu_s=0.4))
    assert [code(verdict) for verdict, _ in found] == ["VerifiedImage", "TOO_SLOW", "VerifiedImage"]


@pytest.mark.slow
def test_a_picture_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    paths = [
        picture(tmp_path / "good.png"),
        picture(tmp_path / "big.png", (9000, 9000), "RGB"),
        picture(tmp_path / "next.png"),
    ]
    found = verify_files(paths, tmp_path, Limits(memory_bytes=200 * 2**20, cpu_s=60))
    assert [code(verdict) for verdict, _ in found] == ["VerifiedImage", "TOO_MUCH_MEMORY", "VerifiedImage"]


@pytest.mark.slow
def test_a_process_killed_from_outside_costs_no_picture(tmp_path: Path) -> None:
    """As the kernel does when a machine runs out of memory."""
    paths = [picture(tmp_path / f"{number}.png", (6000, 6000)) for number in range(6)]

    others = set(children())

    def kill_once() -> None:
        for _ in range(1000):
            if found := [pid for pid in children() if pid not in others]:
                break
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_once)
    killer.start()
    found = verify_files(paths, tmp_path)
    killer.join()
    assert {code(verdict) for verdict, _ in found} == {"VerifiedImage"}


@pytest.mark.slow
def test_many_pictures_that_take_too_long_end_the_run(tmp_path: Path) -> None:
    """Each takes minutes, and more than the quarantine allows would end it anyway."""
    paths = [picture(tmp_path / f"{number}.png", (5000, 5000)) for number in range(20)]
    with pytest.raises(SourceError, match=r"of 20 files end the program that decodes them: \d+\.png \(.*TOO_SLOW"):
        verify_files(paths, tmp_path, Limits(memory_bytes=LIMITS.memory_bytes, cpu_s=0.1))


def test_a_stamp_of_what_changed_meanwhile_is_not_kept(tmp_path: Path) -> None:
    path, stop = picture(tmp_path / "a.png", (3000, 3000)), threading.Event()

    def touch() -> None:
        while not stop.wait(0.001):
            os.utime(path)

    toucher = threading.Thread(target=touch)
    toucher.start()
    ((verdict, stamp),) = verify_files([path], tmp_path)
    stop.set()
    toucher.join()
    assert isinstance(verdict, VerifiedImage)
    assert stamp is None


def test_a_full_disk_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    """Where converted pictures go cannot be written."""
    path, scratch = tmp_path / "a.bmp", tmp_path / "scratch"
    Image.effect_noise((32, 32), 90).save(path)
    scratch.mkdir()
    ((found, _),) = verify_files([path], scratch)
    assert isinstance(found, VerifiedImage)
    made = scratch / found.sha256
    made.unlink()
    made.mkdir()
    with pytest.raises(SourceError, match=r"a\.bmp cannot be verified: Is a directory"):
        verify_files([path], scratch)


def test_a_damaged_fax_is_refused_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff makes up what is missing, and writes a line for each row."""
    whole, damaged = tmp_path / "whole.tif", tmp_path / "damaged.tif"
    Image.effect_noise((64, 48), 90).convert("1").save(whole, "TIFF", compression="group4")
    body = bytearray(whole.read_bytes())
    body[60:90] = b"\x15" * 30
    damaged.write_bytes(body)
    found = [verdict for verdict, _ in verify_files([whole, damaged, whole], tmp_path)]
    assert [code(verdict) for verdict in found] == ["VerifiedImage", "CORRUPT", "VerifiedImage"]
    assert isinstance(found[1], Rejected)
    assert found[1].detail.startswith("Fax4Decode: ")  # what it says after that is up to the bits
    assert "Fax" not in capfd.readouterr().err
