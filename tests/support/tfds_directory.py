"""Writes a small TFDS dataset as `tfds build` leaves it, without TensorFlow."""

import io
import json

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

FEATURES = "tensorflow_datasets.core.features"


def png(image_HWC):
    file = io.BytesIO()
    Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC).save(file, "png")
    return file.getvalue()


def example(image, label, ident, extra=()):
    proto = tf_example_pb2.Example()
    proto.features.feature["image"].bytes_list.value.append(png(image))
    proto.features.feature["label"].int64_list.value.append(int(label))
    for key in extra:
        proto.features.feature[key].int64_list.value.append(0)
    if isinstance(ident, str):
        proto.features.feature["id"].bytes_list.value.append(ident.encode())
    elif ident is not None:
        proto.features.feature["id"].int64_list.value.append(int(ident))
    return proto.SerializeToString()


def class_label(classes):
    return {"classLabel": {"numClasses": str(classes)}, "pythonClassName": f"{FEATURES}.class_label_feature.ClassLabel"}


def features_json(shape, classes, ids, extra=()):
    image = {"dtype": "uint8", "shape": {"dimensions": [str(n) for n in shape]}, "encodingFormat": "png"}
    features = {
        "image": {"image": image, "pythonClassName": f"{FEATURES}.image_feature.Image"},
        "label": class_label(classes),
        **{key: class_label(classes) for key in extra},
    }
    if ids == "str":
        features["id"] = {"text": {}, "pythonClassName": f"{FEATURES}.text_feature.Text"}
    elif ids == "int":
        tensor = {"shape": {}, "dtype": "int64", "encoding": "none"}
        features["id"] = {"tensor": tensor, "pythonClassName": f"{FEATURES}.tensor_feature.Tensor"}
    return {"pythonClassName": f"{FEATURES}.features_dict.FeaturesDict", "featuresDict": {"features": features}}


def write(
    root,
    *,
    name="tiny",
    version="1.0.0",
    counts=None,
    shape=(6, 6, 3),
    classes=3,
    ids="str",
    shards=2,
    file_format="array_record",
    reverse=False,
    supervised=True,
    extra=(),
    first_label=0,
):
    """Returns {split: (images, labels, ids)} as stored; `ids` is "str", "int" or None; `reverse` turns their order."""
    counts = {"train": 40, "test": 10} if counts is None else counts
    folder = root / name / version
    folder.mkdir(parents=True)
    stored, infos = {}, []
    for split, count in counts.items():
        rng = np.random.default_rng([count, len(split)])
        images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        labels = np.arange(count) % classes + first_label
        idents = {
            "str": [f"{split}_{7 * i:05d}" for i in range(count)],
            "int": [7 * i for i in range(count)],
            None: [None] * count,
        }
        rows = list(zip(images, labels, idents[ids]))
        rows = rows[::-1] if reverse else rows
        lengths = [len(part) for part in np.array_split(np.arange(count), shards)]
        for shard, end in enumerate(np.cumsum(lengths)):
            path = folder / f"{name}-{split}.{file_format}-{shard:05d}-of-{shards:05d}"
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for row in rows[end - lengths[shard] : end]:
                writer.write(example(*row, extra))
            writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        infos.append({"name": split, "filepathTemplate": template, "shardLengths": [str(n) for n in lengths]})
        infos[-1]["numBytes"] = "1"
        stored[split] = tuple(map(np.array, zip(*rows)))
    info = {"name": name, "version": version, "fileFormat": file_format, "splits": infos}
    if supervised:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(features_json(shape, classes, ids, extra)))
    (folder / "label.labels.txt").write_text("\n".join(f"class {k}" for k in range(classes)))
    return stored
