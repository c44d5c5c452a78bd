"""The installed models: whatever happens on the way in or out, the car keeps the old ones or has the new ones."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.policy import OpenVinoPolicy
from inference.quarantine import blank
from tests.inference.making import WEIGHTS, metadata, onnx, package
from vehicle.models import ModelExists, ModelMissing, ModelStore, PackageError

ROOT = Path(__file__).parents[2]
CUT = Path(__file__).with_name("cut.py")
OTHER = onnx(WEIGHTS + 1)
"""Another network than that of the model "one"."""


def tree(root: Path) -> dict[str, object]:
    """All that lies below `root`: where links lead, and what files hold."""
    return {
        str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.is_dir() or path.read_bytes()
        for path in root.rglob("*")
    }


def packages(root: Path) -> set[str]:
    return {path.name for path in (root / "packages").iterdir()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds "one", which is active, and "two", another package."""
    folder = tmp_path_factory.mktemp("template")

    async def install() -> None:
        store = ModelStore(folder / "root")
        await store.add(package(folder / "one.tar.gz"))
        await store.add(package(folder / "two.tar.gz", onnx(WEIGHTS + 2)))
        store.activate("one")

    asyncio.run(install())
    return folder


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A store of the test's own, like the template."""
    return shutil.copytree(template / "root", tmp_path / "root", symlinks=True)


@pytest.fixture
def store(root: Path) -> ModelStore:
    return ModelStore(root)


def test_a_new_store_is_empty(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "new" / "store")
    assert (store.names(), store.active) == ([], None)


@pytest.mark.parametrize("name", ["three", "", ".", "..", "../packages", ".one.link"])
async def test_a_model_that_is_not_there_is_named(store: ModelStore, name: str) -> None:
    before = tree(store.root)
    for ask in (store.get, store.activate):
        with pytest.raises(ModelMissing, match=re.escape(f"There is no model {name!r} on this car.")):
            ask(name)
    with pytest.raises(ModelMissing):
        await store.remove(name)
    assert tree(store.root) == before


async def test_an_installed_model_drives(store: ModelStore, tmp_path: Path) -> None:
    added = await store.add(package(tmp_path / "my three.tar.gz", OTHER))
    assert added.name == "my_three"
    assert added == store.get("my_three")
    assert store.names() == ["my_three", "one", "two"]
    assert added.path.parent == store.root / "packages"
    assert packages(store.root) == {store.get(name).digest for name in store.names()}
    compiled = tree(store.cache(added))
    assert compiled
    OpenVinoPolicy(added, cache=store.cache(added)).decide(blank())
    assert tree(store.cache(added)) == compiled
    assert tree(store.root / "incoming") == {}
    assert store.active == "one"


async def test_a_given_name_is_made_plain(store: ModelStore, template: Path) -> None:
    assert (await store.add(template / "one.tar.gz", "../../b c.d")).name == "b_c"
    assert store.names() == ["b_c", "one", "two"]


async def test_a_model_replaces_the_one_of_its_name_and_stays_active(store: ModelStore, tmp_path: Path) -> None:
    old = store.get("one")
    new = await store.add(package(tmp_path / "one.tar.gz", OTHER))
    assert store.get("one") == new
    assert new.digest != old.digest
    assert store.active == "one"
    assert packages(store.root) == {new.digest, store.get("two").digest}
    assert not store.cache(old).exists()


async def test_one_package_may_have_two_names(store: ModelStore, template: Path) -> None:
    again = await store.add(template / "one.tar.gz", "again")
    assert again.path == store.get("one").path
    assert len(packages(store.root)) == 2
    await store.remove("one")
    assert store.names() == ["again", "two"]
    assert store.get("again") == again
    assert store.cache(again).is_dir()


async def test_a_removed_model_is_gone_with_all_its_files(store: ModelStore) -> None:
    one = store.get("one")
    await store.remove("one")
    assert (store.names(), store.active) == (["two"], None)
    assert not [path for path in tree(store.root) if one.digest in path]
    assert ModelStore(store.root).active is None


def test_the_active_model_is_remembered(store: ModelStore) -> None:
    assert ModelStore(store.root).active == "one"
    store.activate("two")
    assert ModelStore(store.root).active == store.active == "two"


async def test_models_may_come_and_go_at_once(store: ModelStore, template: Path, tmp_path: Path) -> None:
    await asyncio.gather(
        store.add(package(tmp_path / "three.tar.gz", OTHER)),
        store.add(template / "one.tar.gz", "four"),
        store.remove("one"),
        store.remove("two"),
    )
    assert store.names() == ["four", "three"]
    assert packages(store.root) == {store.get(name).digest for name in store.names()}


async def test_a_refused_package_leaves_the_store_as_it_was(store: ModelStore, tmp_path: Path) -> None:
    before = tree(store.root)
    with pytest.raises(PackageError, match="7 values"):
        await store.add(package(tmp_path / "one.tar.gz", described=metadata(7)))
    assert tree(store.root) == before


async def test_an_installation_that_was_given_up_leaves_the_store_as_it_was(store: ModelStore, template: Path) -> None:
    before = tree(store.root)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(store.add(template / "two.tar.gz", "one"), 0.01)
    assert tree(store.root) == before


FULL = """
import asyncio, resource, sys
from pathlib import Path
from vehicle.models import ModelStore

store = ModelStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    asyncio.run(store.add(Path(sys.argv[2]), "one"))
except OSError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_store_as_it_was(root: Path, template: Path) -> None:
    before = tree(root)
    command = [sys.executable, "-c", FULL, str(root), str(template / "two.tar.gz")]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said == "File too large\n"
    assert tree(root) == before


def test_leftovers_are_swept_when_the_store_is_opened(root: Path) -> None:
    before = tree(root)
    for folder in ("packages/lost", "cache/lost", "incoming/half/package"):
        (root / folder).mkdir(parents=True)
        (root / folder / "model.onnx").write_bytes(b"half")
    (root / "models" / ".three.link").symlink_to("../packages/lost")
    (root / ".active.link").symlink_to("models/three")
    store = ModelStore(root)
    assert tree(root) == before
    assert (store.names(), store.active) == (["one", "two"], "one")


def test_a_half_made_link_is_no_model(store: ModelStore) -> None:
    (store.root / "models" / ".one.link").symlink_to((store.root / "models" / "one").readlink())
    assert store.names() == ["one", "two"]


@pytest.mark.parametrize("left", [None, 0, 100])
@pytest.mark.parametrize("file", ["model.onnx", "model_metadata.json"])
def test_damaged_files_are_noticed(store: ModelStore, file: str, left: int | None) -> None:
    damaged = store.get("one").path / file
    if left is None:
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:left])
    with pytest.raises(PackageError):
        store.get("one")
    assert store.get("two").name == "two"


async def test_damaged_files_are_installed_anew(store: ModelStore, template: Path) -> None:
    one = store.get("one")
    one.graph.write_bytes(OTHER)
    assert await store.add(template / "one.tar.gz") == one
    assert store.get("one") == one


# Power cuts.


@pytest.fixture(scope="module")
def prepared(template: Path) -> Path:
    """A package as it comes out of quarantine: unpacked, and compiled."""
    folder = template / "prepared"

    async def install() -> Path:
        store = ModelStore(folder / "store")
        added = await store.add(package(folder / "three.tar.gz", OTHER))
        shutil.copytree(added.path, folder / "draft" / "package")
        shutil.copytree(store.cache(added), folder / "draft" / "cache")
        return folder / "draft"

    folder.mkdir()
    return asyncio.run(install())


def cuts(verb: str, template: Path, prepared: Path, folder: Path) -> Iterator[ModelStore]:
    """The store re-opened after a cut at the first, second, third... touch, and after none."""
    command = [sys.executable, str(CUT), verb, str(template), str(prepared), str(folder)]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"})
    for touch in range(1, len(list(folder.iterdir())) + 1):
        yield ModelStore(folder / str(touch))


def look(store: ModelStore) -> tuple[dict[str, str], str | None]:
    """The installed models, each whole, and the active one; and nothing else lies in the store."""
    digests = {name: store.get(name).digest for name in store.names()}
    assert packages(store.root) == set(digests.values())
    assert {path.name for path in (store.root / "cache").iterdir()} <= set(digests.values())
    assert tree(store.root / "incoming") == {}
    assert {path.name for path in store.root.iterdir()} == {"packages", "models", "incoming", "cache", "active"}
    return digests, store.active


@pytest.mark.parametrize("verb", ["three", "one", "two", "remove", "activate"])
def test_a_cut_at_any_instant_leaves_the_old_or_the_new(
    template: Path, prepared: Path, tmp_path: Path, verb: str
) -> None:
    before, _ = look(ModelStore(shutil.copytree(template / "root", tmp_path / "before", symlinks=True)))
    if verb == "remove":
        after, active = {"two": before["two"]}, None
    elif verb == "activate":
        after, active = before, "two"
    else:
        after, active = before | {verb: ModelStore(prepared.parent / "store").get("three").digest}, "one"
    seen = [look(store) for store in cuts(verb, template / "root", prepared, tmp_path / "cuts")]
    assert len(seen) > 5
    assert seen[0] == (before, "one")
    assert seen[-1] == (after, active)
    turn = seen.index((after, active))
    assert seen == [(before, "one")] * turn + [(after, active)] * (len(seen) - turn)


def test_a_cut_while_sweeping_loses_nothing(template: Path, root: Path, prepared: Path, tmp_path: Path) -> None:
    whole = look(ModelStore(root))
    for lost in ("packages/lost", "cache/lost", "incoming/half"):
        shutil.copytree(prepared, root / lost)
    (root / "models" / ".three.link").symlink_to("../packages/lost")
    (root / ".active.link").symlink_to("models/three")
    seen = [look(store) for store in cuts("open", root, prepared, tmp_path / "cuts")]
    assert len(seen) > 20
    assert seen == [whole] * len(seen)


def traceable() -> bool:
    return (
        shutil.which("strace") is not None
        and not subprocess.run(["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).returncode
    )


@pytest.mark.skipif(not traceable(), reason="strace is not installed, or may not trace")
def test_everything_is_on_the_disk_before_it_is_shown(template: Path, prepared: Path, tmp_path: Path) -> None:
    root, trace = tmp_path / "root", tmp_path / "trace"
    shutil.copytree(template / "root", root, symlinks=True)
    work = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[1:3]; from cut import change;"
        "change('one', Path(sys.argv[3]), Path(sys.argv[4]))()"
    )
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2"
    command = ["strace", "-f", "--seccomp-bpf", "-y", "-o", str(trace), "-e", calls, sys.executable, "-c", work]
    subprocess.run([*command, str(ROOT), str(CUT.parent), str(root), str(prepared)], check=True)
    text = trace.read_text().replace(f"{root}/", "")
    synced = [match.start() for match in re.finditer(r"fsync\(\d+<(incoming/draft/package.*?)>\)", text)]
    files = re.findall(r"fsync\(\d+<(incoming/draft/package.*?)>\)", text)
    moved = re.search(r'rename\w*\(.*"incoming/draft/package".*"packages/\w+"', text)
    shown = re.search(r'rename\w*\(.*"models/.one.link".*"models/one"', text)
    assert moved is not None
    assert shown is not None
    names = {"", "/model.onnx", "/model_metadata.json"}
    assert set(files) == {f"incoming/draft/package{name}" for name in names}
    assert max(synced) < moved.start()
    assert re.search(r"fsync\(\d+<packages>\)", text[moved.end() : shown.start()])
    assert re.search(r"fsync\(\d+<models>\)", text[shown.end() :])


async def test_what_is_installed_is_described(store: ModelStore) -> None:
    one, two = store.installed()
    assert (one.name, two.name) == ("one", "two")
    assert one.package is not None
    assert one.package.name == "one"
    assert one.size == sum(file.stat().st_size for file in one.package.path.iterdir())
    assert 0 <= time.time() - one.when < 3600
    assert store.installed()[0] is one, "what has not changed is not read again"


async def test_a_damaged_model_is_listed_with_its_fault(store: ModelStore, root: Path) -> None:
    (root / "models" / "one" / "model_metadata.json").write_text("{}")
    one, two = store.installed()
    assert one.package is None
    assert one.fault
    assert two.fault is None


async def test_a_name_is_not_taken_twice_unless_it_is_to_be_replaced(
    store: ModelStore, root: Path, tmp_path: Path
) -> None:
    archive = package(tmp_path / "one.tar.gz", OTHER)
    before = tree(root)
    with pytest.raises(ModelExists, match="one is installed already: rename the file, or replace that model"):
        await store.add(archive, replace=False)
    assert tree(root) == before
    old = store.get("one").digest
    await store.add(archive)
    assert store.get("one").digest != old
    assert store.installed()[0].package == store.get("one")
    await store.add(archive, "three", replace=False)
    assert store.names() == ["one", "three", "two"]


async def test_a_spooled_file_is_swept_at_the_next_start(store: ModelStore, root: Path) -> None:
    spooled = store.spool()
    assert spooled.read_bytes() == b""
    ModelStore(root)
    assert not spooled.exists()
