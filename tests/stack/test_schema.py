"""`make schema` writes what editors read of recipes; the file in the repository is what it would write."""

from pathlib import Path

from stack import schema

ROOT = Path(__file__).parents[2]


def test_the_schema_of_the_repository_is_current() -> None:
    assert (ROOT / schema.SCHEMA).read_text() == schema.text(ROOT), "run `make schema`"


def test_each_key_brings_its_meaning() -> None:
    told = schema.meanings((ROOT / schema.DOCUMENT).read_text())
    assert told["training.spot"].startswith("spot instances;")
    assert told["hyperparameters.lr"] == "peak rate"
    assert "](" not in "".join(told.values()) and "`" not in "".join(told.values())
    written = (ROOT / schema.SCHEMA).read_text()
    assert all(meaning.replace('"', '\\"') in written for meaning in told.values())
