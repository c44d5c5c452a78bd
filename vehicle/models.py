"""The installed ModelPackages: list, add, activate, remove; a power cut at any instant leaves the old or the new.

The folder is the truth, and every change is one renaming:

    packages/<digest>/    graph and metadata of one package, complete, never changed
    models/<name>         symbolic link to its package: replacing the link replaces the model
    active                symbolic link to models/<name>
    incoming/<random>/    a package on its way in; swept at the start
    cache/<digest>/       what OpenVINO compiled; may be lost at any time
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from drivers.disk import link_atomically, sync_folder, sync_tree
from inference.package import ModelPackage, PackageError, name_of, read
from inference.quarantine import admit

log = logging.getLogger(__name__)

DISK_FLOOR = 64 << 20
"""Bytes that an installation leaves free."""


class ModelMissing(KeyError):
    """No model of that name is installed."""

    def __str__(self) -> str:
        return str(self.args[0])


class ModelExists(ValueError):
    """A model of that name is installed already."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One installed model: its bytes on the disk, when it came (seconds since 1970), and its package, or the fault
    that makes it useless."""

    name: str
    size: int
    when: float
    package: ModelPackage | None
    fault: str | None = None


class ModelStore:
    """The models below `root`. Slow verbs are coroutines; they may run at once, and the disk is left to threads."""

    def __init__(self, root: Path, device: str = "CPU") -> None:
        """Opens or makes the folder and sweeps away what a cut left unfinished. Raises OSError."""
        self.root, self.device = root, device
        self._packages, self._models, self._incoming, self._cache = (
            root / name for name in ("packages", "models", "incoming", "cache")
        )
        shutil.rmtree(self._incoming, ignore_errors=True)
        for folder in (self._packages, self._models, self._incoming, self._cache):
            folder.mkdir(parents=True, exist_ok=True)
        sync_folder(root)
        for draft in (root / ".active.link", *self._models.glob(".*")):
            draft.unlink(missing_ok=True)
        self._sweep()
        self._installing = asyncio.Lock()
        self._changing = threading.Lock()
        self._looked_at: dict[tuple[str, str], Installed] = {}

    def names(self) -> list[str]:
        links = (link for link in self._models.iterdir() if not link.name.startswith("."))
        return sorted(link.name for link in links if link.is_symlink() and link.is_dir())

    def installed(self) -> list[Installed]:
        """Every installed model, by name. Reads what it has not read before, so call it from a thread."""
        keys = [(name, (self._models / name).resolve().name) for name in self.names()]
        self._looked_at = {key: self._looked_at.get(key) or self._look(*key) for key in keys}
        return [*self._looked_at.values()]

    def _look(self, name: str, digest: str) -> Installed:
        size = sum(file.stat().st_size for file in (self._packages / digest).iterdir())
        when = (self._models / name).lstat().st_mtime
        try:
            return Installed(name, size, when, self.get(name))
        except (PackageError, ModelMissing) as error:
            return Installed(name, size, when, None, str(error))

    def spool(self) -> Path:
        """A new, empty file for an archive on its way in; whoever asked removes it. Raises OSError."""
        handle, path = tempfile.mkstemp(dir=self._incoming)
        os.close(handle)
        return Path(path)

    def get(self, name: str) -> ModelPackage:
        """Raises ModelMissing, or PackageError when its files were damaged since."""
        if name not in self.names():
            raise ModelMissing(f"There is no model {name!r} on this car.")
        home = (self._models / name).resolve()
        package = read(home, name)
        if package.digest != home.name:
            raise PackageError(f"The files of {name} were damaged since it was installed; install it anew.")
        return package

    def cache(self, package: ModelPackage) -> Path:
        """Where OpenVINO may keep what it compiled of this package."""
        return self._cache / package.digest

    @property
    def active(self) -> str | None:
        """The model that the car last drove with, if it is still installed."""
        link = self.root / "active"
        name = link.readlink().name if link.is_symlink() else None
        return name if name in self.names() else None

    def activate(self, name: str) -> None:
        """Remember the model to start with. Raises ModelMissing or OSError."""
        if name not in self.names():
            raise ModelMissing(f"There is no model {name!r} on this car.")
        link_atomically(self.root / "active", Path("models") / name)

    async def add(self, source: Path, name: str | None = None, replace: bool = True) -> ModelPackage:
        """Install an archive or a folder; in place of a model of the same name, or else raises ModelExists.

        Tried in quarantine first. Raises PackageError, or OSError when the disk is full; the store is then as before.
        """
        name = name_of(Path(name)) if name else name_of(source)
        async with self._installing:
            if not replace and name in self.names():
                raise ModelExists(f"A model named {name} is installed already: rename the file, or replace that model.")
            draft = Path(tempfile.mkdtemp(dir=self._incoming))
            try:
                package_folder, cache = draft / "package", draft / "cache"
                package_folder.mkdir()
                if shutil.disk_usage(self.root).free < DISK_FLOOR:
                    raise OSError("The disk is full: remove a model first.")
                package = await admit(source, package_folder, name, self.device, cache)
            except BaseException:
                await asyncio.to_thread(shutil.rmtree, draft, True)
                raise
            return await asyncio.to_thread(self._settle, package, draft)  # whoever cancels now, it is settled

    def _settle(self, package: ModelPackage, draft: Path) -> ModelPackage:
        home, cache = self._packages / package.digest, draft / "cache"
        try:
            sync_tree(draft)
            with self._changing:
                if not _intact(home):  # it is there already when the same package has another name
                    shutil.rmtree(home, ignore_errors=True)
                    package.path.rename(home)
                if cache.is_dir() and not self.cache(package).exists():
                    cache.rename(self.cache(package))
                sync_folder(self._packages)
                link_atomically(self._models / package.name, Path("..") / "packages" / package.digest)
                self._sweep()
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        log.info("Installed the model %s", package.name)
        return read(home, package.name)

    async def remove(self, name: str) -> None:
        """Raises ModelMissing or OSError."""
        if name not in self.names():
            raise ModelMissing(f"There is no model {name!r} on this car.")
        async with self._installing:
            await asyncio.to_thread(self._remove, name)

    def _remove(self, name: str) -> None:
        with self._changing:
            (self._models / name).unlink(missing_ok=True)
            sync_folder(self._models)
            self._sweep()

    def _sweep(self) -> None:
        """Drop packages that no name leads to, and what was compiled of them."""
        used = {link.readlink().name for link in self._models.iterdir() if link.is_symlink()}
        for folder in (*self._packages.iterdir(), *self._cache.iterdir()):
            if folder.name not in used:
                shutil.rmtree(folder, ignore_errors=True)


def _intact(folder: Path) -> bool:
    """Whether this is a package, and the one that the folder's name says."""
    try:
        return read(folder, folder.name).digest == folder.name
    except (PackageError, OSError):
        return False


__all__ = ["Installed", "ModelExists", "ModelMissing", "ModelStore", "PackageError"]
