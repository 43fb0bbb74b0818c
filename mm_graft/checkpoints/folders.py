"""Folders of weights as hubs keep them: one file, or shards that an index names; settings in JSON files beside them."""

from pathlib import Path

from mm_graft.files import read_small_json

SUFFIXES = ('.pth', '.pt', '.tar', '.bin', '.ckpt', '.th', '.safetensors')
INDEX = '.index.json'
# Of transformers, timm, and OpenCLIP; tensors that nothing can hide in come first
WEIGHTS = ('model.safetensors.index.json', 'model.safetensors', 'open_clip_model.safetensors',
           'pytorch_model.bin.index.json', 'pytorch_model.bin', 'open_clip_pytorch_model.bin')
LIMIT = 2**24


def weights_file(path: str | Path) -> Path:
    """The file that holds the weights of a folder, or the index of its shards; a file is itself.

    Raises:
        ValueError: the folder holds none that hubs name so, and not one beside a ``config.json``.
    """
    folder = Path(path)
    if not folder.is_dir():
        return folder
    named = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    inside = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    if named is not None:
        return named
    if len(inside) == 1 and (folder / 'config.json').is_file():
        return folder / inside[0]
    raise ValueError('is a folder; give the path of a file in it' + (f', of {", ".join(inside[:5])}' if inside else ''))


def shards_of(index: str | Path) -> dict[Path, list[str]]:
    """The shards of an index file, and the tensors that each must hold.

    Raises:
        ValueError: it is no index, or names a file outside its folder, or a shard is not there.
    """
    content = read_small_json(index, LIMIT)
    places = content.get('weight_map') if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ValueError('is no index of shards: it has no weight_map')
    shards: dict[Path, list[str]] = {}
    for tensor, name in places.items():
        if Path(name).name != name:
            raise ValueError(f'names the shard {name!r}, which is not beside it')
        if name.endswith(INDEX):
            raise ValueError(f'names the shard {name!r}, which is an index itself')
        shards.setdefault(Path(index).with_name(name), []).append(tensor)
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise ValueError(f'names {len(shards)} shards, of which {", ".join(missing[:3])} '
                         f'{"is" if len(missing) == 1 else "are"} not there; fetch all of them')
    return shards
