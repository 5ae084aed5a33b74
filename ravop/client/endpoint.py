"""Where the coordinator is: arguments, the environment, or the embedded cluster's endpoint file.

The one place that knows these rules; scripts (`api`) and the command line (`ravop.cli`) both ask here.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import platformdirs

from ravop.errors import TokenError

URL, TOKEN, HOME = "RAVENVERSE_URL", "RAVENVERSE_TOKEN", "RAVENVERSE_HOME"
"""Environment variables."""
DEFAULT_URL = "http://127.0.0.1:9999"
ENDPOINT_FILE = "embedded.json"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint file: how to reach the embedded coordinator of a data folder. Readable by its owner
    only.
    """

    url: str
    pid: int
    requester_token: str
    provider_token: str


def named(token: str | None, url: str | None) -> tuple[str, str] | None:
    """(url, token) of the coordinator that arguments or environment name; None where they name none.

    Raises `TokenError` for a URL without a token.
    """
    token = token or os.environ.get(TOKEN) or None
    url = url or os.environ.get(URL) or None
    if token:
        return url or DEFAULT_URL, token
    if url:
        raise TokenError(
            f"the coordinator at {url} needs a token",
            expected=f"a token, given as argument, option or {TOKEN}",
            received="none",
            hint="ask whoever runs it for `ravsock token create --role requester --name you`",
        )
    return None


def data_folder() -> Path:
    """Where the embedded cluster keeps its database, blobs and logs: $RAVENVERSE_HOME or the user's data
    folder.
    """
    home = os.environ.get(HOME)
    return Path(home).expanduser().resolve() if home else platformdirs.user_data_path("ravenverse")


def read_endpoint(folder: Path) -> Endpoint | None:
    """The endpoint file of a folder; None when there is none or it is not readable as one."""
    try:
        return msgspec.json.decode((folder / ENDPOINT_FILE).read_bytes(), type=Endpoint)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
