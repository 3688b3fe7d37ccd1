"""The frame of every page: its style, its one script, and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path

from starlette.responses import HTMLResponse

from local_sagemaker.pages.html import Html, join, tag

_FOLDER = Path(__file__).parent

#: Seconds between looks at the server: while something goes on, and otherwise.
_BUSY_S, _QUIET_S = 2, 5


def page(title: str, content: Html, *, busy: bool) -> HTMLResponse:
    """It takes in what has changed by itself; where scripts are off, the browser loads it anew."""
    style, script = _assets()
    refresh = str(_BUSY_S if busy else _QUIET_S)
    home = Html("") if title == "local_sagemaker" else tag("p", tag("a", "← all", href="/"), class_="quiet")
    head = join(
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("noscript", Html(f'<meta http-equiv="refresh" content="{refresh}">')),
        tag("style", style),
    )
    main = tag("main", home, tag("h1", title), content, data_refresh=refresh)
    body = Html(
        f'<!doctype html><html lang="en"><head>{head}</head><body>{main}<script>{script}</script></body></html>'
    )
    # Names and output of jobs may hold what is no text; it must not keep the page from being shown.
    return HTMLResponse(body.encode("utf-8", "backslashreplace"), headers=_headers())


@functools.cache
def _assets() -> tuple[Html, Html]:
    return Html((_FOLDER / "page.css").read_text()), Html((_FOLDER / "page.js").read_text())


@functools.cache
def _headers() -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(_assets()[1].encode()).digest()).decode()
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
