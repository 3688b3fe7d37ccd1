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
PROGRAMS = (
    ".c", ".cc", ".cpp", ".cxx", ".cu", ".h", ".hh", ".hpp", ".cs", ".java", ".kt", ".scala", ".js", ".mjs", ".jsx",
    ".ts", ".tsx", ".vue", ".css", ".scss", ".sh", ".bash", ".bat", ".cmd", ".ps1", ".m", ".r", ".rmd", ".rb", ".go",
    ".rs", ".php", ".swift", ".lua", ".pl", ".proto", ".prototxt", ".cfg", ".conf", ".pyc", ".exe", ".dll", ".so",
    ".jar", ".pth", ".pt", ".ckpt", ".onnx", ".pb", ".pbtxt", ".tflite", ".caffemodel", ".weights", ".keras", ".hdf5",
    ".joblib", ".pickle", ".sav", ".bin",
)  # fmt: skip
"""Of files alone, for a class may be called Node.js: a program's source, and what a model is kept in."""
SOURCES = (".py", ".ipynb", ".m", ".r", ".cpp", ".java", ".js", ".sh")
EVENTS = ".tfevents."
UNFINISHED = (".part", ".crdownload", ".tmp", "~")


def ignored(name: str, *, folder: bool = False) -> bool:
    """Whether one part of a path (a file's or a folder's own name) takes it and all below it out of a data set."""
    return why_ignored(name, folder=folder) is not None


def why_path_ignored(path: str) -> str | None:
    """The same of a file's path, with / between its parts, or of a folder's with one at its end: the first reason."""
    *folders, last = path.split("/")
    whys = [why_ignored(part, folder=True) for part in folders if part not in ("", ".")]
    return next(filter(None, [*whys, why_ignored(last)]), None)


def is_program(name: str) -> bool:
    """Whether a file of this name is a program's source, which is a sign of a project around the images."""
    return name.lower().endswith(SOURCES)


def why_ignored(name: str, *, folder: bool = False) -> str | None:
    """In a word or two, for a table; None for a name that may be an image's or a class's."""
    folded = name.lower()
    if folded.startswith("."):
        return "hidden"
    if folded in SYSTEM:
        return "of a system"
    if folded.endswith(NOTES) or (not folder and (folded.endswith(PROGRAMS) or EVENTS in folded)):
        return "notes"
    if folded.endswith(UNFINISHED) or folded.startswith("~$"):
        return "unfinished copies"
    return None
