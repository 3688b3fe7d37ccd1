"""What was understood of a source, as Markdown: in the task's log before anything is paid, and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.dataset.labels.corrections import told

ROWS = 60
CHANGED = 8
"""Classes named of those that changed."""
FAR = 0.2
"""From a share that the recipe asks for: groups are divided whole."""


def summary(dataset: Mapping[str, Any]) -> list[str]:
    """Lines for what `sync_dataset` returns: counts by class and split, what was left out, followed and grouped."""
    counts = dataset["counts"]
    sizes = ", ".join(f"{split} {sum(of_class.values())}" for split, of_class in counts.items())
    lines = [f"**Data** `{dataset['fingerprint']}`: {sizes}; {dataset['quarantined']} quarantined.", ""]
    labels = sorted({label for of_class in counts.values() for label in of_class})
    lines += [f"| class | {' | '.join(counts)} |", "|---" * (len(counts) + 1) + "|"]
    for label in labels[:ROWS]:
        lines.append(f"| {cell(label)} | {' | '.join(str(of_class.get(label, 0)) for of_class in counts.values())} |")
    if more := labels[ROWS:]:
        lines.append(f"| {len(more)} more classes | {' | '.join('…' for _ in counts)} |")
    notes = notes_on(dataset)
    return lines + ([""] if notes else []) + [f"- {note}" for note in notes]


def notes_on(dataset: Mapping[str, Any]) -> list[str]:
    """What is to be said besides the counts, a sentence each."""
    notes = [*_changes(dataset.get("changes") or {}), *_layout(dataset.get("layout") or {})]
    notes += _groups(dataset.get("groups") or {})
    notes += _shares(dataset)
    if animated := dataset.get("animated"):
        notes.append(f"Of {animated} animated pictures the first frame counts.")
    notes += _near(dataset.get("near_duplicates") or {})
    notes += told(dataset.get("corrections") or {})
    if converted := dataset.get("converted"):
        each = ", ".join(f"{count} {kind}" for kind, count in converted.items())
        notes.append(f"Converted to PNG, without loss: {each}.")
    return notes


def changed(changes: Mapping[str, Any]) -> list[str]:
    """What is other in `Changes.as_dict()`, a phrase each; none where nothing is."""
    said = [
        f"{sum(changes[what].values())} {what} ({', '.join(f'{label} {n}' for label, n in _first(changes[what]))})"
        for what in ("added", "removed", "relabelled")
        if changes[what]
    ]
    return said + ([f"{changes['moved']} in another split"] if changes["moved"] else [])


def cell(text: str) -> str:
    """A class is named by a folder, which may have the sign between two cells in its name."""
    return text.replace("|", "\\|")


def _changes(changes: Mapping[str, Any]) -> list[str]:
    """Against what the champion was trained on."""
    if not changes:
        return []
    said = changed(changes)
    return [f"Since the champion's data `{changes['since']}`: {', '.join(said) or 'no image is other'}."]


def _first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    shown = list(counts.items())[:CHANGED]
    rest = sum(list(counts.values())[CHANGED:])
    return [*shown, ("others", rest)] if rest else shown


def _layout(layout: Mapping[str, Any]) -> list[str]:
    notes = []
    if splits := layout.get("splits"):
        kept = ", ".join(f"{folder} as {split}" for folder, split in splits.items())
        notes.append(f"Splits of the source are kept: {kept}.")
    for table, columns in (layout.get("tables") or {}).items():
        taken = ", ".join(f"the {what} by column {column}" for what, column in columns.items())
        notes.append(f"Classes are told by {table}: {taken}.")
    for table, column in (layout.get("undivided") or {}).items():
        notes.append(
            f"Not divided by column {column} of {table}: its values are not train, validation and test. Where they "
            "keep together what belongs together, write these words there, or name `split.group_by` in the recipe."
        )
    if pattern := layout.get("pattern"):
        notes.append(f"Classes are told by the files' names: `{pattern}`.")
    if within := layout.get("within"):
        notes.append(
            f"Folders within class folders are no classes: {within['folders']} ({', '.join(within['examples'])}). "
            "Where they are, `layout.classes` of the recipe names what they lie in, with * for every folder."
        )
    for why, left in (layout.get("ignored") or {}).items():
        notes.append(f"Ignored, {why}: {left['files']} ({', '.join(left['examples'])}).")
    if followed := layout.get("links_followed"):
        notes.append(f"Links followed: {followed}.")
    return notes


def _near(near: Mapping[str, Any]) -> list[str]:
    notes = []
    if near.get("clusters"):
        examples = "; ".join(" ~ ".join(names) for names in near["examples"])
        notes.append(
            f"Near-duplicates: {near['images']} images in {near['clusters']} clusters, none divided between splits "
            f"({examples})."
        )
    if near.get("left_out"):
        examples = "; ".join(" ~ ".join(names) for names in near["left_out_examples"])
        notes.append(
            f"Left out of training, for nearly the same is measured with: {near['left_out']} images ({examples})."
        )
    if near.get("confusing"):
        notes.append(
            f"Nearly the same as images of other classes: {near['confusing']}. They are too many to be mistakes: what "
            "makes these classes is finer than what near-duplicates are told by, and nothing was done to them."
        )
    if copies := near.get("copies"):
        pairs = ", ".join(f"{copy} of {of}" for copy, of in copies)
        notes.append(
            f"Folders that look like copies of others, picture by picture: {pairs}. Leave one of each two out, unless "
            "they are to be told apart."
        )
    return notes


def _groups(groups: Mapping[str, Any]) -> list[str]:
    if not groups:
        return []
    notes = [
        f"Groups by `{groups['pattern']}`: {groups['groups']} of {groups['smallest']} to {groups['largest']} images "
        f"(median {groups['median']:g}); none is divided here."
    ]
    if groups["ungrouped"]:
        examples = ", ".join(groups["ungrouped_examples"])
        notes.append(f"In no group: {groups['ungrouped']} images, each divided by itself ({examples}).")
    if groups["divided_by_source"]:
        examples = ", ".join(groups["divided_examples"])
        notes.append(
            f"The source's own split folders divide {groups['divided_by_source']} groups ({examples}): what is "
            "measured there may be too good. Move the files, or merge the folders."
        )
    return notes


def _shares(dataset: Mapping[str, Any]) -> list[str]:
    """Where groups are so large that the splits are not what the recipe asks for."""
    if not dataset.get("groups") or (dataset.get("layout") or {}).get("splits"):
        return []
    asked = dataset.get("split") or {}
    sizes = {split: sum(of_class.values()) for split, of_class in dataset["counts"].items()}
    images = sum(sizes.values())
    far = [split for split, size in sizes.items() if split in asked and abs(size / images - asked[split]) > FAR]
    if not far:
        return []
    each = ", ".join(
        f"{sizes[split]} are for {split} ({sizes[split] / images:.2f} for {asked[split]:g})" for split in far
    )
    return [f"The groups are too large to divide as the recipe asks: of {images} images {each}."]
