"""Names that are no one's image and no one's class: what systems, shares, notebooks and people leave between images.

The pipeline's data step ignores the same, so that a folder means the same to both; tests/contract holds them together.
"""

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
EVENTS = ".tfevents."
UNFINISHED = (".part", ".crdownload", ".tmp", "~")


def ignored(name: str, *, folder: bool = False) -> bool:
    """Whether one part of a path (a file's or a folder's own name) takes it and all below it out of a data set."""
    return why_ignored(name, folder=folder) is not None


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
