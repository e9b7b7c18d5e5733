"""Print the Python and the versions of dagnb's direct dependencies here, and those of the lock."""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path

TESTED = Path(__file__).resolve().parent.parent / "dagnb" / "tested.json"


def main() -> int:
    """One line for Python, one for all packages."""
    packages = json.loads(TESTED.read_text("utf-8"))["packages"]
    print(f"Python {platform.python_version()}, {sys.prefix}")

    told = []
    for name, (_, newest) in packages.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        told.append(
            f"{name} {version}" if version == newest else f"{name} {version} (lock: {newest})"
        )
    print("; ".join(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
