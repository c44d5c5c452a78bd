"""Changes a store of models in children that die at their first, second, third... touch of the disk, until one lives.

`python cut.py VERB TEMPLATE PREPARED FOLDER`: FOLDER/n is what the child left that died at touch n of its VERB.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from inference.package import read
from vehicle.models import ModelStore

TOUCHES = ("open", "os.", "shutil.")
DIED = 9


def change(verb: str, root: Path, prepared: Path) -> Callable[[], object]:
    """The change that `verb` names, ready to be made. PREPARED is a package that came through quarantine."""
    if verb == "open":
        return lambda: ModelStore(root)
    store = ModelStore(root)
    if verb == "activate":
        return lambda: store.activate("two")
    if verb == "remove":
        return lambda: store._remove("one")
    draft = shutil.copytree(prepared, root / "incoming" / "draft")
    return lambda: store._settle(read(draft / "package", verb), draft)


def die_at(touch: int) -> None:
    """End this process, as a power cut would, just before its touch of that number."""
    touches = itertools.count(1)

    def hook(event: str, _: object) -> None:
        if event.startswith(TOUCHES) and next(touches) == touch:
            os._exit(DIED)

    sys.addaudithook(hook)


def main(verb: str, template: Path, prepared: Path, folder: Path) -> None:
    for touch in itertools.count(1):
        root = shutil.copytree(template, folder / str(touch), symlinks=True)
        child = os.fork()
        if not child:
            make = change(verb, root, prepared)
            die_at(touch)
            make()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != DIED:
            sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
