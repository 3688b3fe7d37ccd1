"""Labels that are doubted: told in a sheet, decided by people, gone by at the next sync."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retraining.dataset.labels.sheet import COLUMNS, Decision, SheetError, decided, merged, proposals, read
from retraining.dataset.labels.store import decide, read_decisions
from retraining.dataset.labels.suspects import Doubts, Suspect, UnreadableSuspects, of_answers, of_training, together
from retraining.dataset.labels.terminal import Asked, labels
from retraining.dataset.labels.training_output import labels_document
from retraining.dataset.summary import summary
from retraining.dataset.sync import as_fact, sync_dataset
from retraining.plan import Plan
from tests.plugins.test_sync import read_json, write_classes

ODD = Suspect(image="cat/0a1b.png", split="train", label="cat", likely="dog", gap=0.93)
RELABEL = Decision(image="cat/0a1b.png", label="cat", what="relabel", now="dog", by="ann", when="2026-11-29")
KEEP = replace(RELABEL, what="keep", now="cat")
REMOVE = replace(RELABEL, what="remove", now="cat")


# --- who doubts -----------------------------------------------------------------------------------------------------


def told(**changes: Any) -> dict[str, Any]:
    suspect = {"image": "cat/0a1b.png", "split": "train", "class": "cat", "likely": "dog", "gap": 0.93}
    return {"format": 1, "images": 9, "count": 1, "unjudged": ["dog"], "suspects": [suspect | changes]}


def test_what_the_training_doubts_is_known() -> None:
    doubts = of_training(told(), {"cat/0a1b.png": "cat", "dog/1.png": "dog"})
    assert doubts == Doubts(suspects=[ODD], count=1, judged=9, unjudged=["dog"])


@pytest.mark.parametrize(
    "changes", [{"image": "cat/other.png"}, {"image": "../x"}, {"class": "dog"}, {"likely": "cow"}, {"likely": "cat"}]
)
def test_what_the_version_has_not_is_passed_over(changes: dict[str, Any]) -> None:
    doubts = of_training(told(**changes), {"cat/0a1b.png": "cat", "dog/1.png": "dog"})
    assert (list(doubts.suspects), doubts.count) == ([], 0)


@pytest.mark.parametrize(
    "document", [None, [], 7, "x", {}, {"format": 2}, {"format": 1}, told(gap="x"), told() | {"suspects": 7}]
)
def test_foreign_documents_are_refused(document: Any) -> None:
    with pytest.raises(UnreadableSuspects):
        of_training(document, {"cat/0a1b.png": "cat"})


def test_test_images_are_doubted_by_both_models() -> None:
    expected = {"cat/1.png": "cat", "cat/2.png": "cat", "dog/3.png": "dog", "cat/4.png": "cat"}
    answers = {"cat/1.png": [0.02, 0.98], "cat/2.png": [0.4, 0.6], "dog/3.png": [0.0, 1.0], "cat/4.png": [0.1, 0.9]}
    alone = of_answers(["cat", "dog"], expected, answers)
    assert [one.image for one in alone.suspects] == ["cat/1.png", "cat/4.png"]
    champions = {"cat/1.png": "dog", "cat/2.png": "dog", "cat/4.png": "cat"}
    both = of_answers(["cat", "dog"], expected, answers, champions)
    assert [(one.image, one.likely, one.gap) for one in both.suspects] == [("cat/1.png", "dog", 0.96)]


def test_what_a_person_gave_is_not_doubted_again() -> None:
    doubts = Doubts(suspects=[ODD], count=1, judged=9)
    assert together([doubts], {("0a1b", "cat")}).count == 0
    assert together([doubts], {("0a1b", "dog")}).count == 1


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("name", ["labels.json", "./labels.json"])
def test_the_training_output_is_read_through(s3: Any, bucket: str, name: str) -> None:
    body = packed({"debug-output/a.ts": b"x" * 100_000, "history.json": b"[]", name: json.dumps(told()).encode()})
    s3.put_object(Bucket=bucket, Key="o.tar.gz", Body=body)
    assert labels_document(s3, bucket, "o.tar.gz") == told()


def test_a_training_that_does_not_look_left_none(s3: Any, bucket: str) -> None:
    assert labels_document(s3, bucket, "none.tar.gz") is None
    s3.put_object(Bucket=bucket, Key="o.tar.gz", Body=packed({"history.json": b"[]"}))
    assert labels_document(s3, bucket, "o.tar.gz") is None


def described_by(record: bytes) -> bytes:
    """A header of a tar that only describes the next one."""
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, len(record)
    return entry.tobuf() + record + bytes(-len(record) % tarfile.BLOCKSIZE)


DAMAGED = {
    "empty": b"",
    "no archive": b"no archive",
    "cut": packed({"labels.json": b"{"})[:-20],
    "no JSON": packed({"labels.json": b"{"}),
    "too long": packed({"labels.json": b" " * (2**20 + 1)}),
    "too deep": packed({"labels.json": b"[" * 100_000}),
    "headers without end": gzip.compress(described_by(b"5 a=\n") * 2_000 + bytes(1024)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_outputs_are_named(s3: Any, bucket: str, kind: str) -> None:
    s3.put_object(Bucket=bucket, Key="o.tar.gz", Body=DAMAGED[kind])
    with pytest.raises(UnreadableSuspects, match=r"o\.tar\.gz"):
        labels_document(s3, bucket, "o.tar.gz")


# --- the sheet ------------------------------------------------------------------------------------------------------


def test_a_sheet_that_was_filled_in_decides() -> None:
    (row,) = csv.DictReader(io.StringIO(proposals([ODD], {ODD.image: "cats/IMG 1.jpg"})))
    assert list(row) == list(COLUMNS) and row["decision"] == ""
    row |= {"decision": "Relabel", "by": "ann", "when": "2026-11-29T10:00"}
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS)
    table.writeheader()
    table.writerow(row)
    assert read(out.getvalue().encode("utf-8-sig"), "x.csv") == [replace(RELABEL, file="cats/IMG 1.jpg")]


def test_an_empty_decision_decides_nothing() -> None:
    assert read(proposals([ODD], {}).encode(), "x.csv") == []


def test_decisions_are_read_as_written() -> None:
    strange = replace(KEEP, image="cat/ff.png", file='a,"b"\n.png')
    assert read(decided([strange, RELABEL]).encode(), "x.csv") == [RELABEL, strange]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("cat/1.png,,,cat,dog,,rename,ann,2026-11-29", "'rename' is none of relabel, keep, remove"),
        ("cat/1.png,,,cat,dog,,keep,,2026-11-29", "'by' has to say who"),
        ("cat/1.png,,,cat,dog,,keep,a\x1bn,2026-11-29", "'by' has to say who"),
        ("cat/1.png,,,cat,dog,,keep,ann,", "'when' is ''"),
        ("cat/1.png,,,cat,dog,,keep,ann,29.11.2026", "'when' is '29.11.2026'"),
        ("cat/1.png,,,cat,,,relabel,ann,2026-11-29", "another class in 'likely'"),
        ("cat/1.png,,,cat,cat,,relabel,ann,2026-11-29", "another class in 'likely'"),
        ("1.png,,,cat,dog,,relabel,ann,2026-11-29", "those of the proposal"),
        ("cat/1.png,,,,dog,,relabel,ann,2026-11-29", "those of the proposal"),
        ('"cat/1.png', "no CSV"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, why: str) -> None:
    with pytest.raises(SheetError, match=re.escape(why)):
        read(f"{','.join(COLUMNS)}\n{line}\n".encode(), "x.csv")


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"image,class\n", b"x" * (16 * 2**20 + 1)])
def test_what_is_no_sheet_is_refused(body: bytes) -> None:
    with pytest.raises(SheetError, match=r"x\.csv"):
        read(body, "x.csv")


def test_two_decisions_about_one_image_are_refused() -> None:
    text = decided([RELABEL]) + decided([KEEP]).splitlines()[1]
    with pytest.raises(SheetError, match=r"line 3: cat/0a1b\.png is decided twice"):
        read(text.encode(), "x.csv")


def test_no_name_becomes_a_formula() -> None:
    (row,) = csv.DictReader(io.StringIO(proposals([ODD], {ODD.image: "=HYPERLINK(1).png"})))
    assert row["file"] == "'=HYPERLINK(1).png"


AS_DOG = replace(RELABEL, image="dog/0a1b.png", label="dog", by="bob")


@pytest.mark.parametrize(
    ("before", "new", "what", "now"),
    [
        (RELABEL, KEEP, "keep", "cat"),
        (RELABEL, replace(RELABEL, now="cow"), "relabel", "cow"),
        (RELABEL, replace(AS_DOG, what="keep", now="dog"), "relabel", "dog"),
        (RELABEL, replace(AS_DOG, now="cow"), "relabel", "cow"),
        (RELABEL, replace(AS_DOG, now="cat"), "keep", "cat"),
        (RELABEL, replace(AS_DOG, what="remove", now="dog"), "remove", "cat"),
    ],
)
def test_a_newer_decision_counts(before: Decision, new: Decision, what: str, now: str) -> None:
    """Also about an image that is in another class by then than in its source."""
    (one,) = merged([before], [new])
    assert (one.image, one.label, one.what, one.now) == ("cat/0a1b.png", "cat", what, now)


# --- a sync goes by it ----------------------------------------------------------------------------------------------


@pytest.fixture
def plan(bucket: str, make_plan: Callable[..., Plan], tmp_path: Path) -> Plan:
    return make_plan(bucket, source=str(write_classes(tmp_path / "in", {"cat": 20, "dog": 20})))


def about(plan: Plan, version: Any, name: str, what: str = "relabel", now: str = "dog") -> Decision:
    image = next(image for image in version.images if image.file.name == name)
    return Decision(image=image.entry, label=image.label, what=what, now=now, by="ann", when="2026-11-29")


def test_a_relabelled_image_changes_the_version(s3: Any, plan: Plan) -> None:
    before = sync_dataset(plan, s3).version
    one = about(plan, before, "cat/3.png")
    decide(s3, plan, [one])
    after = sync_dataset(plan, s3)
    assert after.version.fingerprint != before.fingerprint
    assert {i.label for i in after.version.images if i.file.name == "cat/3.png"} == {"dog"}
    assert len(after.version.images) == len(before.images)
    document = read_json(s3, plan.environment.bucket, f"{plan.version_key(after.version.fingerprint)}/dataset.json")
    (row,) = document["corrections"]["decisions"]
    assert (row["file"], row["class"], row["now"], row["by"], row["when"]) == (
        *("cat/3.png", "cat", "dog"),
        *("ann", "2026-11-29"),
    )
    assert "1 in another class than the folder's" in "\n".join(summary(as_fact(after.version)))
    assert sync_dataset(plan, s3).uploaded == 0


def test_the_file_moved_by_hand_is_the_same_version(s3: Any, plan: Plan) -> None:
    before = sync_dataset(plan, s3).version
    decide(s3, plan, [about(plan, before, "cat/3.png")])
    decided_ = sync_dataset(plan, s3).version
    source = Path(plan.recipe.source)
    (source / "cat/3.png").rename(source / "dog/cat3.png")
    moved = sync_dataset(plan, s3).version
    assert moved.fingerprint == decided_.fingerprint and not moved.corrections


def test_a_removed_image_is_in_no_version(s3: Any, plan: Plan) -> None:
    before = sync_dataset(plan, s3).version
    decide(s3, plan, [about(plan, before, "cat/3.png", "remove", "cat")])
    after = sync_dataset(plan, s3).version
    assert {i.file.name for i in before.images} - {i.file.name for i in after.images} == {"cat/3.png"}
    assert after.quarantined == [] and after.corrections.counts()["removed"] == 1


def test_a_kept_label_changes_nothing(s3: Any, plan: Plan) -> None:
    before = sync_dataset(plan, s3).version
    decide(s3, plan, [about(plan, before, "cat/3.png", "keep", "cat")])
    after = sync_dataset(plan, s3)
    assert (after.version.fingerprint, after.uploaded) == (before.fingerprint, 0)


def test_decisions_about_images_that_left_are_told(s3: Any, plan: Plan) -> None:
    before = sync_dataset(plan, s3).version
    decide(s3, plan, [about(plan, before, "cat/3.png")])
    (Path(plan.recipe.source) / "cat/3.png").unlink()
    after = sync_dataset(plan, s3).version
    assert after.corrections.out_of_date == 1
    assert "1 about images that are gone, or in another class by now" in "\n".join(summary(as_fact(after)))


def test_decisions_outlive_another_packing(
    bucket: str, s3: Any, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """A converted image is named by its PNG, which the next zlib packs otherwise; the picture is the same."""
    write_classes(tmp_path / "in", {"cat": 20, "dog": 20})
    for path in (tmp_path / "in").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    plan = make_plan(bucket, source=str(tmp_path / "in"))
    before = sync_dataset(plan, s3).version
    image = next(image for image in before.images if image.file.name == "cat/3.webp")
    folder, packed = plan.version_key("earlier"), f"cat/{'f' * 20}.png"
    original = before.originals[image.entry]
    for name, document in (("dataset.json", {}), ("originals.json", {packed: original})):
        s3.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=json.dumps(document).encode())
    decide(s3, plan, [replace(about(plan, before, "cat/3.webp"), image=packed)])
    after = sync_dataset(plan, s3).version
    assert {i.label for i in after.images if i.file.name == "cat/3.webp"} == {"dog"}
    assert after.corrections.counts() == {"relabelled": 1, "removed": 0, "out_of_date": 0}


def test_a_class_that_is_not_there_is_refused(s3: Any, plan: Plan) -> None:
    before = sync_dataset(plan, s3).version
    decide(s3, plan, [about(plan, before, "cat/3.png", now="cow")])
    with pytest.raises(SheetError, match=r"ann gave cat/3\.png the class 'cow' on 2026-11-29"):
        sync_dataset(plan, s3)


def test_a_damaged_sheet_stops_the_sync(s3: Any, plan: Plan) -> None:
    """Rather than a version that forgets what people decided."""
    s3.put_object(Bucket=plan.environment.bucket, Key=plan.decisions_key, Body=b"\xff")
    with pytest.raises(SheetError, match=r"data/labels\.csv is no CSV"):
        sync_dataset(plan, s3)


# --- at a terminal --------------------------------------------------------------------------------------------------


@pytest.fixture
def doubted(s3: Any, plan: Plan) -> Any:
    """A version of which two labels are doubted."""
    version = sync_dataset(plan, s3).version
    names = ("cat/3.png", "cat/4.png")
    suspects = [
        Suspect(image=i.entry, split=i.split, label="cat", likely="dog", gap=0.9)
        for i in version.images
        if i.file.name in names
    ]
    s3.put_object(
        Bucket=plan.environment.bucket,
        Key=plan.proposals_key(version.fingerprint),
        Body=proposals(suspects, version.names).encode(),
    )
    return version


def test_doubted_labels_are_listed(s3: Any, plan: Plan, doubted: Any) -> None:
    text = "\n".join(labels(s3, plan, Asked()))
    assert "2 labels are doubted" in text and "0.9000  cat → dog  cat/3.png" in text


def test_files_are_named_to_decide(s3: Any, plan: Plan, doubted: Any) -> None:
    list(labels(s3, plan, Asked(relabel=["cat/3.png"], keep=["cat/4.png"], by="ann")))
    assert {(one.file, one.what, one.now, one.by) for one in read_decisions(s3, plan)} == {
        ("cat/3.png", "relabel", "dog", "ann"),
        ("cat/4.png", "keep", "cat", "ann"),
    }
    assert "relabel by ann" in "\n".join(labels(s3, plan, Asked()))


def test_a_saved_sheet_is_taken_back(s3: Any, plan: Plan, doubted: Any, tmp_path: Path) -> None:
    sheet = tmp_path / "labels.csv"
    list(labels(s3, plan, Asked(save=sheet)))
    sheet.write_text(re.sub(r",,,$", ",remove,ann,2026-11-29", sheet.read_text(), flags=re.MULTILINE))
    list(labels(s3, plan, Asked(take=sheet)))
    assert [one.what for one in read_decisions(s3, plan)] == ["remove", "remove"]


def test_what_is_doubted_no_longer_can_be_decided_anew(s3: Any, plan: Plan, doubted: Any) -> None:
    list(labels(s3, plan, Asked(relabel=["cat/3.png"], by="ann")))
    key = plan.proposals_key(doubted.fingerprint)
    s3.put_object(Bucket=plan.environment.bucket, Key=key, Body=proposals([], doubted.names).encode())
    text = "\n".join(labels(s3, plan, Asked()))
    assert "1 decided so far, of images that are doubted no longer:\n  relabel  cat → dog  cat/3.png  by ann, " in text
    list(labels(s3, plan, Asked(keep=["cat/3.png"], by="bob")))
    assert [(one.what, one.now, one.by) for one in read_decisions(s3, plan)] == [("keep", "cat", "bob")]


@pytest.mark.parametrize("asked", [Asked(keep=["cat/9.png"]), Asked(relabel=["cat/3.png=cat"])])
def test_what_cannot_be_decided_is_refused(s3: Any, plan: Plan, doubted: Any, asked: Asked) -> None:
    with pytest.raises(SheetError):
        list(labels(s3, plan, asked))
    assert read_decisions(s3, plan) == []
