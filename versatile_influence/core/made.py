"""What made a result, in a few words that are saved with it."""

import json
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from types import FunctionType

# Characters of one setting.
SAID = 200


def made_by(verb: str, **settings: object) -> dict[str, object]:
    """Return what `Attribution.made` says of a call: what was called, by which version, when, with which settings.

    Example:
        >>> made_by("attribute", damping=0.5)["damping"]
        0.5
    """
    about = {"by": verb, "version": _version(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    return json.loads(json.dumps(about | settings, default=_said))


def _said(setting: object) -> str:
    """Return a setting in words that stay short."""
    return setting.__name__ if isinstance(setting, type | FunctionType) else repr(setting)[:SAID]


@cache
def _version() -> str:
    try:
        return metadata.version("versatile-influence")
    except metadata.PackageNotFoundError:
        return "unknown"
