"""Whether a request was sent by our own page: a browser adds Airflow's cookie to the requests of any site.

Of a request that only reads nothing is asked: its answer stays with whom the cookie belongs to.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import HTTPException, Request


def require_same_site(request: Request) -> None:
    """403 unless a page of this Airflow sent it, or a program that carries a token of its own.

    Sec-Fetch-Site is the browser's word, which no page can change; over plain HTTP there is none, and Origin has to
    name this host. What has neither is no browser of these years: it needs a token, which no browser adds by itself.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        known = site == "same-origin"
    elif origin is not None:
        known = urlsplit(origin).netloc in _hosts(request)
    else:
        known = request.headers.get("authorization", "").lower().startswith("bearer ey")
    if not known:
        raise HTTPException(403, "This was sent by a page of another site. Open the page in Airflow and send it there.")


def _hosts(request: Request) -> set[str]:
    """What this Airflow is called: by the request, and where a proxy changes that, by [api] base_url."""
    from airflow.configuration import conf

    told = urlsplit(conf.get("api", "base_url", fallback="") or "").netloc
    return {name for name in (request.headers.get("host", ""), told) if name}
