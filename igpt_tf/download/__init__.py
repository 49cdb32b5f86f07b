"""Downloads that resume and verify."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server and the place for it.

    Attributes:
        source: path below the base URL.
        path: where it goes.
        last: it is fetched only once all the other files of its folder on the server are in place.
    """

    source: str
    path: Path
    last: bool = False
