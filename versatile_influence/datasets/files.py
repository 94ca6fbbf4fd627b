"""Where data files are found: a folder you name, or a cache that they are fetched into once."""

import hashlib
import os
import urllib.error
import urllib.request
from os import PathLike
from pathlib import Path

from versatile_influence.core.checks import told

FOLDER_VARIABLE = "VIF_DATA"


def find(name: str, *, url: str, sha256: str, folder: str | PathLike | None = None) -> Path:
    """Return the path of a data file, checked against its SHA-256.

    It is looked for in `folder`, then in the folder that the environment variable VIF_DATA names, then in the cache
    (`$XDG_CACHE_HOME/versatile-influence`, by default `~/.cache/versatile-influence`), and fetched into the cache
    where it is in none of them.

    Args:
        name: File name.
        url: Where it is published.
        sha256: Its checksum, in hexadecimal.
        folder: A folder that holds it.

    Raises:
        FileNotFoundError: If `folder` is given and does not hold it, or it can be neither found nor fetched.
        ValueError: If the file found is not the one expected.
    """
    if folder is not None and not isinstance(folder, str | PathLike):
        raise TypeError(f"`folder` must be the path of a folder, got {told(folder)}.")
    if folder is not None and not (Path(folder) / name).is_file():
        raise FileNotFoundError(
            f"{folder} holds no {name}. Name the folder that does, or leave `folder` out to fetch it."
        )
    named = folder if folder is not None else os.environ.get(FOLDER_VARIABLE)
    if named and (Path(named) / name).is_file():
        return checked(Path(named) / name, sha256)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "versatile-influence"
    path = cache / name
    if not path.is_file():
        _fetch(url, path, sha256)
    return checked(path, sha256)


def checked(path: Path, sha256: str) -> Path:
    """Return the path if the file has this checksum, else raise a ValueError."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path} has SHA-256 {found}, expected {sha256}. Delete it, so that it is fetched again.")
    return path


def _fetch(url: str, path: Path, sha256: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, open(part, "wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
        checked(part, sha256)
        part.replace(path)
    except urllib.error.URLError as error:
        raise FileNotFoundError(
            f"{path.name} is neither in the folder that {FOLDER_VARIABLE} names "
            f"({os.environ.get(FOLDER_VARIABLE) or 'none'}) nor in {path.parent}, and could not be fetched from {url} "
            f"({error.reason}). Download it elsewhere and set {FOLDER_VARIABLE} to its folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)
