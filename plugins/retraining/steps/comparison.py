"""Candidate against champion on the same images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from retraining.dataset.layouts.groups import groups_of
from retraining.dataset.pictures.small import Thumbnails
from retraining.promotion import bounds
from retraining.promotion.album import album
from retraining.promotion.check import table
from retraining.promotion.decision import NO_CHAMPION, decide
from retraining.promotion.differences import changed_classes, changed_images, confused_pairs
from retraining.promotion.scores import Evaluation, evaluate
from retraining.promotion.traits import measure_all, traits
from retraining.promotion.transform_outputs import read_answers
from retraining.recipe.slices import MEASURED, NAMED, Traits
from retraining.release.artifact import require_champions, require_unchanged
from retraining.release.golden import read_image
from retraining.run import Run
from retraining.steps.labels import keep_labels

log = logging.getLogger(__name__)

GOLDEN_IMAGES = 10
"""Each of another class. While a canary of 10 % bakes, each is asked for some ten times in each way."""
GOLDEN_ALTERNATIVES = 3


def compare(run: Run) -> bool:
    """Promote or keep, and why. False skips the rest of the run."""
    fingerprint = run.fingerprint
    classes = run.read_json(f"{run.plan.version_key(fingerprint)}/dataset.json")["classes"]
    _, *entries = run.read_json(run.plan.manifest_key(fingerprint, "test"))
    expected = {entry: entry.rsplit("/", 1)[0] for entry in entries}
    answers = read_answers(run.s3, run.fact("score_candidate")["output_uri"])
    candidate = evaluate(classes, expected, answers, fingerprint)
    shared = [label for label in classes if label in run.shared_classes]
    fair = _fair(expected, shared, _learned(run))
    champion = _evaluate_champion(run, shared, expected, fair)
    on_shared = None
    if champion and fair != expected:
        on_shared = evaluate(shared, fair, _of(fair, expected, answers), fingerprint, classes)
    absent = NO_CHAMPION if run.champion is None else "the champion knows other classes and cannot be compared"
    artifact = _scored_artifacts(run)
    rule, champions = run.recipe.promotion, (run.comparable_champion or {}).get("artifact") or {}
    size = bounds.size((artifact or {}).get("size_bytes"), champions.get("size_bytes"), rule)
    known = _traits(run, entries) if champion else None
    decision = decide(candidate, champion, rule, absent, [size] if size else [], on_shared, known)
    log.info("%s: %s.", "Promote" if decision.promote else "Keep", decision.reason)
    compared, ours = champion if decision.evidence else None, on_shared or candidate
    found = {
        "decision": decision.as_dict(),
        "changed_classes": changed_classes(ours, compared) if compared else [],
        "confused_pairs": confused_pairs(ours, compared),
    }
    document = found | _console_metrics(candidate) | {
        "candidate": candidate.as_dict(),
        "champion": champion.as_dict() if champion else None,
        "artifact": artifact,
        "changed_images": changed_images(ours, compared) if compared else None,
    }  # fmt: skip
    evaluation_uri = run.write_json(f"{run.plan.run_key}/evaluation.json", document)
    run.push(
        "comparison",
        found
        | {
            "candidate": candidate.summary(),
            "champion": champion.summary() if champion else None,
            "evaluation_uri": evaluation_uri,
            "artifact": artifact,
            "gate": "\n".join(table([check.as_dict() for check in decision.checks])),
            "golden": golden_images(classes, expected, answers),
        },
    )
    _keep_album(run, ours, compared)
    keep_labels(run, classes, expected, answers, compared, Thumbnails(_image(run)))
    return decision.promote


def _traits(run: Run, entries: list[str]) -> dict[str, Traits]:
    """What the recipe's slices go by, as far as they ask for it. Pixels are measured once for a version of the data."""
    asked = {cut.of for cut in run.recipe.promotion.cuts.values()}
    names = (run.find_json(run.plan.names_key(run.fingerprint)) if asked & set(NAMED) else None) or {}
    pattern = run.recipe.split.group_by
    groups = groups_of(names, pattern) if pattern and "group" in asked else {}
    if not asked & MEASURED.keys():
        return traits(entries, names, {}, groups)
    key = run.plan.test_pixels_key(run.fingerprint)
    measured = run.find_json(key)
    if measured is None:
        bucket, images_key = run.environment.bucket, run.plan.images_key
        measured = measure_all(lambda entry: read_image(run.s3, bucket, images_key, entry), entries)
        run.write_json(key, measured)
    return traits(entries, names, measured, groups)


def _keep_album(run: Run, candidate: Evaluation, champion: Evaluation | None) -> None:
    """For the run's page alone: what goes wrong with it is told, and decides nothing."""
    try:
        run.write_json(run.plan.album_key, album(candidate, champion, Thumbnails(_image(run))))
    except Exception:
        log.exception("The images for the page of run %s cannot be kept.", run.plan.run_name)


def _image(run: Run) -> Callable[[str, int], bytes | None]:
    def read(name: str, most: int) -> bytes | None:
        found = run.s3.get_object(Bucket=run.environment.bucket, Key=f"{run.plan.images_key}{name}")
        return bytes(found["Body"].read()) if found["ContentLength"] <= most else None

    return read


def _learned(run: Run) -> set[str]:
    """Names, without their classes, of the images that the champion was trained with or chosen by.

    In a later version of the data some may be test images: the recipe divides otherwise, or a near-duplicate drew its
    kin into another split. The champion knows these by heart. None where its version is gone.
    """
    since = (run.comparable_champion or {}).get("ingredients", {}).get("dataset")
    if since is None or since == run.fingerprint:
        return set()
    keys = [run.plan.manifest_key(since, split) for split in ("train", "validation")]
    manifests = [run.find_json(key) or [] for key in keys]
    return {name.rpartition("/")[2] for names in manifests for name in names[1:]}


def _fair(expected: dict[str, str], shared: list[str], learned: set[str]) -> dict[str, str]:
    """The test images by which both models can be judged; where the champion knows all by heart, all of them."""
    known = {entry: label for entry, label in expected.items() if label in shared}
    fair = {entry: label for entry, label in known.items() if entry.rpartition("/")[2] not in learned}
    if len(fair) < len(known):
        log.warning(
            "The champion learned from %d of the %d test images: the data is divided otherwise since. Both models are "
            "compared on the %d others%s.",
            *(len(known) - len(fair), len(known), len(fair)),
            "" if fair else ", of which there are none, so that it is on all, to the champion's advantage",
        )
    return fair or known


def _evaluate_champion(
    run: Run, shared: list[str], expected: dict[str, str], fair: dict[str, str]
) -> Evaluation | None:
    """On the images by which both can be judged."""
    champion = run.comparable_champion
    if champion is None:
        return None
    # A task that was marked as a success or skipped by hand has scored nothing: no decision then, rather than one
    # without the champion.
    scored = run.fact("score_champion")
    # The digest of the test set this job really read, from its own input address.
    digest = scored["input_uri"].rsplit("/", 2)[-2]
    answers = read_answers(run.s3, scored["output_uri"])
    return evaluate(shared, fair, _of(fair, expected, answers), digest, champion["classes"])


def _of(fair: dict[str, str], expected: dict[str, str], answers: dict[str, list[float]]) -> dict[str, list[float]]:
    """The answers to these images alone; where they are all, also what nobody asked for."""
    other = expected.keys() - fair.keys()
    return {entry: given for entry, given in answers.items() if entry not in other}


def _scored_artifacts(run: Run) -> dict[str, Any] | None:
    """The candidate's artifact, the same before and after it was scored, and the champion's as it was promoted.

    None for a run that an earlier version of this package began.
    """
    artifact = (run.find("create_model") or {}).get("artifact")
    if artifact:
        require_unchanged(run.s3, artifact, "before it was scored")
    require_champions(run.s3, run.comparable_champion)
    return dict(artifact) if artifact else None


def _console_metrics(candidate: Evaluation) -> dict[str, Any]:
    """The form SageMaker's console draws."""
    return {
        "multiclass_classification_metrics": {"accuracy": {"value": candidate.accuracy, "standard_deviation": "NaN"}}
    }


def golden_images(classes: list[str], expected: dict[str, str], answers: dict[str, list[float]]) -> dict[str, str]:
    """Test image → class: for some classes, the images the candidate was surest about and right.

    The surest first; the others are alternatives, for an image may be too large for a request. Classes from all over
    the alphabet, for what mixes up the names of classes may begin with any of them.
    """
    spread = [number * len(classes) // GOLDEN_IMAGES for number in range(GOLDEN_IMAGES)]
    golden: dict[str, str] = {}
    chosen = 0
    for index in dict.fromkeys([*spread, *range(len(classes))]):
        if chosen == GOLDEN_IMAGES:
            break
        label = classes[index]
        right = [e for e in expected if expected[e] == label and max(answers[e]) == answers[e][index]]
        surest = sorted(right, key=lambda entry: (answers[entry][index], entry), reverse=True)
        golden |= dict.fromkeys(surest[:GOLDEN_ALTERNATIVES], label)
        chosen += bool(surest)
    return golden
