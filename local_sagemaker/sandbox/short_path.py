"""A path for a job's temporary folder that is short enough for the sockets that are made in it.

Only for a machine that cannot show jobs their folder at /opt/ml. The short path is a link in a folder of this server's
own below the machine's /tmp; the files stay with the job, where they count for its share of the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

LONGEST = 75
"""Bytes. Linux allows 107 for a socket, of which multiprocessing takes 32: /pymp-xxxxxxxx/listener-xxxxxxxx."""


def of(folder: Path, root: Path) -> Path:
    """`folder`, or a link to it where its own path is too long. `root` is the server's folder.

    Links to folders that are no more go whenever one is made. May be called by several threads.
    """
    if len(os.fsencode(folder)) <= LONGEST:
        return folder
    links = _links(root)
    for old in links.iterdir():
        if not old.exists():
            old.unlink(missing_ok=True)
    link = links / hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    with contextlib.suppress(FileExistsError):  # an earlier attempt of the same job
        link.symlink_to(folder)
    return link


def _links(root: Path) -> Path:
    """The folder of this root's links, the same again after a restart: running jobs go on using what is in it."""
    note = root / "short-paths"
    with contextlib.suppress(OSError, ValueError):
        known = Path(note.read_text())
        found = known.lstat()
        if known.is_dir() and not known.is_symlink() and found.st_uid == os.geteuid():
            return known
    made = Path(tempfile.mkdtemp(prefix="sagemaker-", dir="/tmp"))
    note.write_text(str(made))
    return made
