"""Any image-classification dataset of TFDS, read from its `array_record` files without TensorFlow.

Found as DATA_DIR/NAME[/CONFIG]/VERSION from its own metadata, so that no builder code is needed or run.
"""

import functools
import os
import re
from typing import Any

import numpy as np
from etils import epath

from jaxreg.data.cache import fingerprint
from jaxreg.data.source import CHUNK, Source

VALIDATION = 0.1
_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?(@(?P<test>\w+))?")


def source(argument: str, data_dir: str | None = None) -> Source:
    """Finds `NAME[/CONFIG][:VERSION][@TEST_SPLIT]` in `data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    import tensorflow_datasets as tfds

    match = _NAME.fullmatch(argument)
    root = epath.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    folder = _find(match, root) if match else None
    if match is None or folder is None:
        raise ValueError(_not_found(argument, match, root))
    builder = tfds.builder_from_directory(os.fspath(folder))
    _check_format(argument, builder.info, folder)
    image, label = _features(argument, builder.info)
    stored = _stored_splits(argument, builder.info, match["test"])
    files = sorted(folder.iterdir())
    _check_shards(argument, builder.info, {file.name for file in files}, folder)
    features = builder.info.features
    records = functools.cache(functools.partial(_records, builder, stored))
    decode = features[image].decode_example_np
    return Source(
        name="/".join(filter(None, [match["name"], match["config"]])) + (f"@{match['test']}" if match["test"] else ""),
        version=str(builder.version),
        classes=tuple(features[label].names or map(str, range(features[label].num_classes))),
        scale=255.0,
        image_shape=tuple(features[image].shape),
        dtype=np.dtype(np.uint8),
        counts={split: builder.info.splits[kept].num_examples for split, kept in stored.items()},
        fingerprint=fingerprint(files),
        validation=VALIDATION,
        annotations=lambda split: _annotations(records(split), stored[split], label, "id" in features),
        images=lambda split, positions: _images(records(split), image, decode, positions),
    )


def _records(builder: Any, stored: dict[str, str], split: str) -> Any:
    """Opens the serialized records of a split: parsing a label from them is five times faster than decoding all."""
    import tensorflow_datasets as tfds

    return builder.as_data_source(stored[split], deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)


def _examples(records: Any, positions: np.ndarray) -> list[Any]:
    from tensorflow_datasets.proto import tf_example_pb2

    return [tf_example_pb2.Example.FromString(one).features.feature for one in records.__getitems__(positions.tolist())]


def _annotations(records: Any, stored_split: str, label: str, has_ids: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels [N] and ids [N]; without an `id` feature, the stored split and the position in it."""
    labels, ids = [], []
    for start in range(0, len(records), CHUNK):
        positions = np.arange(start, min(start + CHUNK, len(records)))
        for position, example in zip(positions, _examples(records, positions)):
            labels.append(example[label].int64_list.value[0])
            ids.append(_id(example["id"]) if has_ids else f"{stored_split}_{position}")
    return np.array(labels, np.int64), np.array(ids)


def _images(records: Any, key: str, decode: Any, positions: np.ndarray) -> np.ndarray:
    return np.stack([decode(example[key].bytes_list.value[0]) for example in _examples(records, positions)])


def _id(feature: Any) -> int | str:
    if feature.HasField("int64_list"):
        return feature.int64_list.value[0]
    return feature.bytes_list.value[0].decode(errors="backslashreplace")


def _find(match: re.Match[str], root: epath.Path) -> epath.Path | None:
    """Returns the folder of the asked version, or of the latest one."""
    home = root.joinpath(*filter(None, [match["name"], match["config"]]))
    if not home.exists():
        return None
    versions = [folder for folder in home.iterdir() if (folder / "dataset_info.json").exists()]
    versions = [folder for folder in versions if re.fullmatch(r"\d+\.\d+\.\d+", folder.name)]
    asked = [folder for folder in versions if match["version"] in (None, folder.name)]
    return max(asked, key=lambda folder: tuple(map(int, folder.name.split("."))), default=None)


def _not_found(argument: str, match: re.Match[str] | None, root: epath.Path) -> str:
    kinds = "known kinds: digits, arrays:DIR, or a TFDS name as NAME[/CONFIG][:VERSION][@TEST_SPLIT]"
    if match is None:
        return f"Unknown dataset {argument!r}; {kinds}."
    home = root.joinpath(*filter(None, [match["name"], match["config"]]))
    inside = sorted(folder.name for folder in home.iterdir() if folder.is_dir()) if home.exists() else []
    found = f"only {inside}" if inside else "nothing"
    build = f"tfds build {argument.partition('@')[0]} --file_format=array_record --data_dir={root}"
    cure = f"set TFDS_DATA_DIR or data_dir, or prepare it with pip install 'jaxreg[tfds-prepare]' && {build}"
    rule = f"it must lie as VERSION/dataset_info.json in {home}, found {found}"
    return f"Unknown dataset {argument!r}: {rule}; {kinds}; {cure}."


def _check_format(argument: str, info: Any, folder: epath.Path) -> None:
    formats = sorted(kind.value for kind in info.available_file_formats())
    if "array_record" in formats:
        return
    cure = f"prepare it again elsewhere with tfds build {argument.partition('@')[0]} --file_format=array_record"
    raise ValueError(f"dataset {argument!r} in {folder} must be stored as array_record, got {formats}: {cure}.")


def _check_shards(argument: str, info: Any, present: set[str], folder: epath.Path) -> None:
    missing = [name for split in info.splits.values() for name in sorted(split.filenames) if name not in present]
    if missing:
        where, cure = f"dataset {argument!r} in {folder}", "copy it there, or prepare the dataset again"
        raise ValueError(f"{where}: the shard {missing[0]} is missing ({len(missing)} in all): {cure}.")


def _features(argument: str, info: Any) -> tuple[str, str]:
    """Returns the keys of image and label: the supervised pair, or the only Image and the only ClassLabel."""
    import tensorflow_datasets as tfds

    def only(kind: type, place: int) -> str:
        keys = [key for key, feature in info.features.items() if isinstance(feature, kind)]
        supervised = (info.supervised_keys or (None, None))[place]
        if supervised not in keys and len(keys) != 1:
            cure = "choose an image-classification dataset, or store it as arrays:DIR"
            raise ValueError(f"dataset {argument!r} must have one {kind.__name__} feature, got {keys}: {cure}.")
        return str(supervised if supervised in keys else keys[0])

    image, label = only(tfds.features.Image, 0), only(tfds.features.ClassLabel, 1)
    shape, dtype = info.features[image].shape, np.dtype(info.features[image].np_dtype)
    if None in shape or shape[0] != shape[1] or shape[2] not in (1, 3) or dtype != np.uint8:
        rule = "images must be uint8, square, of one size, with 1 or 3 channels"
        raise ValueError(f"dataset {argument!r}: {rule}, got {dtype} {shape}: resize them into arrays:DIR.")
    return image, label


def _stored_splits(argument: str, info: Any, test: str | None) -> dict[str, str]:
    """Returns {split: its stored name}; `test` renames the split to test on."""
    stored = {split: split for split, about in info.splits.items() if about.num_examples}
    if test is None:
        return stored
    if test not in stored or test == "train":
        others = sorted(set(stored) - {"train"})
        raise ValueError(
            f"dataset {argument!r}: the split after @ must be one of {others}, got {test!r}: name one of them."
        )
    return {split: split for split in stored if split not in (test, "test")} | {"test": test}
