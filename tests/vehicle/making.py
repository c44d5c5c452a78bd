"""A store of models that nothing but their names and sensors tells apart; the policies come from the tests."""

from __future__ import annotations

from pathlib import Path

from inference.package import read
from vehicle.models import ModelStore


def make_store(folder: Path, **sensors: tuple[str, ...]) -> ModelStore:
    """A store below `folder`, with a model for each name, which needs these sensors."""
    store = ModelStore(folder / "store")
    for name, wanted in sensors.items():
        draft = folder / name
        draft.mkdir()
        (draft / "model.pb").write_bytes(name.encode())
        names = ", ".join(f'"{sensor}"' for sensor in wanted)
        metadata = f'{{"action_space": [{{"steering_angle": 30, "speed": 1}}], "sensor": [{names}]}}'
        (draft / "model_metadata.json").write_text(metadata)
        package = draft.rename(store.root / "packages" / read(draft, name).digest)
        (store.root / "models" / name).symlink_to(Path("..") / "packages" / package.name)
    return store
