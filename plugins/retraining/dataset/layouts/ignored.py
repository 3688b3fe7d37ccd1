"""Names that are no one's image and no one's class: what systems, shares, notebooks and people leave between images.

ml/ ignores the same when it lists a channel; tests/contract holds the two together. What is ignored is counted and
said (`layout`), never dropped in silence.
"""

from __future__ import annotations

# Compared in lower case: Windows and macOS do not tell Thumbs.db from THUMBS.DB.
SYSTEM = {
    "$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db", "ehthumbs.db",
    "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "__macosx", "icon\r", "network trash folder",
    "temporary items", "lost+found", "__pycache__", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle",
    "#snapshot",
}  # fmt: skip
NOTES = (
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".toml", ".ini",
    ".log", ".html", ".htm", ".pdf", ".docx", ".xlsx", ".py", ".ipynb", ".mat", ".npy", ".npz", ".pkl", ".h5",
    ".parquet", ".cls", ".lst", ".manifest", ".db", ".lnk", ".url", ":zone.identifier",
)  # fmt: skip
UNFINISHED = (".part", ".crdownload", ".tmp", "~")


def ignored(name: str) -> bool:
    """Whether one part of a path (a file's or a folder's own name) takes it and all below it out of a data set."""
    return why_ignored(name) is not None


def why_path_ignored(path: str) -> str | None:
    """The same of a path, with / between its parts: the first reason there is."""
    parts = (part for part in path.split("/") if part not in ("", "."))
    return next((why for part in parts if (why := why_ignored(part))), None)


def why_ignored(name: str) -> str | None:
    """In a word or two, for a table; None for a name that may be an image's or a class's."""
    folded = name.lower()
    if folded.startswith("."):
        return "hidden"
    if folded in SYSTEM:
        return "of a system"
    if folded.endswith(NOTES):
        return "notes"
    if folded.endswith(UNFINISHED) or folded.startswith("~$"):
        return "unfinished copies"
    return None
