"""`healthcheck.py URL [PART]`: exit status 0 if something answers at URL, and says that PART of it is healthy.

Standard library only: the slim base image has no curl, and `airflow jobs check` costs seconds of CPU each time.
"""

import json
import sys
import urllib.error
import urllib.request


def problem(url: str, part: str | None) -> str | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=4) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        # A refusal is an answer too: S3 and SageMaker want signed requests.
        return f"{url} answered {error.code}" if error.code >= 500 or part else None
    except OSError as error:
        return f"{url}: {error}"
    status = json.loads(body).get(part, {}).get("status") if part else "healthy"
    return None if status == "healthy" else f"{part} is {status}"


if __name__ == "__main__":
    sys.exit(problem(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
