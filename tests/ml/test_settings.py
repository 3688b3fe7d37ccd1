"""The settings of a training, parted by who needs them."""

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from training import flags

FOLDERS = ["--train-dir", "t", "--validation-dir", "v", "--model-dir", "m"]


@pytest.fixture
def settings():
    return flags.parse(FOLDERS, "")


def rooms(settings):
    return [getattr(settings, room.name) for room in fields(settings)]


def test_each_flag_is_in_one_room(settings):
    known = {flag.replace("-", "_") for flag in re.findall(r'"--([a-z-]+)"', Path(flags.__file__).read_text())}
    held = [field.name for room in rooms(settings) for field in fields(room)]
    assert sorted(held) == sorted(known)


def test_what_is_recorded_and_where_is_no_hyperparameter(settings):
    others = {field.name for room in (settings.watching, settings.folders) for field in fields(room)}
    assert settings.hyperparameters.keys() == {f.name for room in rooms(settings) for f in fields(room)} - others
    assert settings.hyperparameters["lr"] == settings.optimizer.lr


def test_nobody_changes_a_setting(settings):
    with pytest.raises(FrozenInstanceError):
        settings.loop.epochs = 7
