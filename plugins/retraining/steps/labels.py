"""Labels that a run doubts, for people: a sheet beside the version, and the pictures for the run's page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from retraining.dataset.labels.sheet import proposals
from retraining.dataset.labels.store import read_decisions
from retraining.dataset.labels.suspects import Doubts, UnreadableSuspects, of_answers, of_training, together
from retraining.dataset.labels.training_output import labels_document
from retraining.dataset.pictures.small import Thumbnails
from retraining.promotion.scores import Evaluation
from retraining.run import Run

log = logging.getLogger(__name__)

SHOWN = 60
"""With a small picture; the sheet has them all."""


def keep_labels(
    run: Run,
    classes: Sequence[str],
    expected: Mapping[str, str],
    answers: Mapping[str, Sequence[float]],
    champion: Evaluation | None,
    thumbnail: Thumbnails,
) -> None:
    """What goes wrong with it is told, and decides nothing."""
    try:
        names = run.find_json(run.plan.names_key(run.fingerprint)) or {}
        doubts = _open(run, [*_by_training(run, names), of_answers(classes, expected, answers, _answered(champion))])
        key = run.plan.proposals_key(run.fingerprint)
        run.s3.put_object(
            Bucket=run.environment.bucket,
            Key=key,
            Body=proposals(doubts.suspects, names).encode(),
            ContentType="text/csv; charset=utf-8",
        )
        shown = [
            one.as_dict() | {"file": names.get(one.image, ""), "picture": thumbnail(one.image)}
            for one in islice(doubts.suspects, SHOWN)
        ]
        run.write_json(
            run.plan.labels_key,
            {
                "count": doubts.count,
                "judged": doubts.judged,
                "unjudged": list(doubts.unjudged),
                "sheet": run.plan.uri(key),
                "decisions": run.plan.uri(run.plan.decisions_key),
                "suspects": shown,
            },
        )
        if doubts.count:
            log.info("The labels of %d of %d images are doubted: %s", doubts.count, doubts.judged, run.plan.uri(key))
    except Exception:
        log.exception("The labels that run %s doubts cannot be kept.", run.plan.run_name)


def _by_training(run: Run, images: Iterable[str]) -> list[Doubts]:
    """Of the images that it saw; none where the training script is one that does not look."""
    known = {image: image.rpartition("/")[0] for image in images}
    training = run.fact("train")["name"]
    key = f"{run.plan.run_key}/training/{training}/output/output.tar.gz"
    try:
        document = labels_document(run.s3, run.environment.bucket, key)
        return [of_training(document, known)] if document is not None else []
    except UnreadableSuspects as error:
        log.warning("The training's look at labels is passed over: %s.", error)
        return []


def _open(run: Run, doubts: list[Doubts]) -> Doubts:
    """Without what people have decided: a label that was kept, or given, is not asked for again."""
    given = {(one.content, one.now) for one in read_decisions(run.s3, run.plan)}
    return together(doubts, given)


def _answered(champion: Evaluation | None) -> dict[str, str] | None:
    if champion is None:
        return None
    outcomes, names = champion.outcomes, [*champion.classes, ""]
    return {image: names[answer] for image, answer in zip(outcomes.names, outcomes.answered, strict=True)}
