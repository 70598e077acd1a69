import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from jaxreg.data import cache, load, open_source
from support.tfds_directory import write


@pytest.fixture
def home(tmp_path):
    write(tmp_path / "tfds")
    return tmp_path


def read(home):
    return load("tiny", data_dir=str(home / "tfds"), validation=5, cache_dir=str(home / "cache"))


def folders(home):
    return sorted(path.name for path in (home / "cache").iterdir())


def same(a, b):
    for split in ("train", "validation", "test"):
        for field in ("images", "labels", "ids"):
            mine, other = getattr(a.splits[split], field), getattr(b.splits[split], field)
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


def no_decoding(monkeypatch):
    def fail(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "image_chunks", fail)


def test_second_start_maps_and_does_not_decode(home, monkeypatch):
    memory = load("tiny", data_dir=str(home / "tfds"), validation=5)
    same(memory, read(home))
    no_decoding(monkeypatch)
    second = read(home)
    same(memory, second)
    assert isinstance(second.splits["train"].images, np.memmap)
    assert len(folders(home)) == 1


def test_one_cache_serves_every_hold_out(home, monkeypatch):
    read(home)
    no_decoding(monkeypatch)
    other = load("tiny", data_dir=str(home / "tfds"), validation=0.5, cache_dir=str(home / "cache"))
    assert len(other.splits["validation"]) == 20


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


BREAKS = {
    "images cut": lambda folder: cut(folder / "train_images.npy"),
    "images changed": lambda folder: flip_a_bit(folder / "train_images.npy"),
    "labels changed": lambda folder: flip_a_bit(folder / "test_labels.npy"),
    "ids changed": lambda folder: flip_a_bit(folder / "test_ids.npy"),
    "array gone": lambda folder: (folder / "test_ids.npy").unlink(),
    "array empty": lambda folder: (folder / "test_labels.npy").write_bytes(b""),
    "record gone": lambda folder: (folder / "cache.json").unlink(),
    "record cut": lambda folder: cut(folder / "cache.json"),
    "another format": lambda folder: (folder / "cache.json").write_text(json.dumps({"format": 0, "checks": {}})),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_cache_is_rebuilt(home, broken, monkeypatch):
    whole = load("tiny", data_dir=str(home / "tfds"), validation=5)
    read(home)
    BREAKS[broken](home / "cache" / folders(home)[0])
    same(whole, read(home))
    assert len(folders(home)) == 1
    no_decoding(monkeypatch)
    same(whole, read(home))


def test_changed_source_files_are_decoded_again(home):
    first = read(home)
    shard = next((home / "tfds/tiny/1.0.0").glob("tiny-train*00000-of*"))
    (home / "tfds/tiny/1.0.0/label.labels.txt").write_text("x\ny\nz")
    second = read(home)
    assert (first.classes, second.classes) == (("class 0", "class 1", "class 2"), ("x", "y", "z"))
    assert len(folders(home)) == 2
    os.utime(shard, (1, 1))
    read(home)
    assert len(folders(home)) == 3


@pytest.mark.parametrize("size", [8, 64])  # of a file whose content is read, and of one of more than 1 MiB
def test_a_file_rewritten_within_the_second_is_decoded_again(tmp_path, size):
    def images(value):
        return np.full((400, size, size), value, np.uint8)

    def look(second):
        where = tmp_path / "v[2]*"
        where.mkdir(exist_ok=True)
        for split in ("train", "test"):
            np.savez(where / f"{split}.npz", images=images(second % 250), labels=np.arange(400) % 2)
            os.utime(where / f"{split}.npz", ns=(10**18 + second, 10**18 + second))
        return load(f"arrays:{where}", validation=5, cache_dir=str(tmp_path / "cache")).splits["test"].images

    assert [int(look(nanosecond).max()) for nanosecond in (3, 4, 5)] == [3, 4, 5]


def test_a_split_has_one_fingerprint_however_it_is_read(home):
    memory = load("tiny", data_dir=str(home / "tfds"), validation=5)
    first, second = read(home), read(home)
    assert memory.contents == first.contents == second.contents
    assert len({*memory.contents.values()}) == len(memory.contents) == 2


def test_a_stopped_write_leaves_nothing_behind(home, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "image_chunks", stop)
        with pytest.raises(KeyboardInterrupt):
            read(home)
    assert folders(home) == []
    read(home)


def test_old_unfinished_folders_are_swept_and_young_ones_left(home):
    source = open_source("tiny", str(home / "tfds"))
    folder = cache.folder_of(source, str(home / "cache"))
    old, young = (folder.parent / f"{folder.name}.tmp-{age}" for age in ("old", "young"))
    for left in (old, young):
        left.mkdir(parents=True)
    os.utime(old, (1, 1))
    read(home)
    assert folders(home) == sorted([folder.name, young.name])


def test_the_slower_of_two_writers_yields(home):
    source = open_source("tiny", str(home / "tfds"))
    folder = cache.folder_of(source, str(home / "cache"))
    asides = [cache._write(source, folder) for _ in range(2)]
    for aside in asides:
        cache._publish(aside, folder, source)
    assert folders(home) == [folder.name]
    assert cache._open(folder, source) is not None


def test_processes_at_once_all_read_the_same(home):
    program = """
        import sys, zlib, numpy as np
        from jaxreg.data import load
        home = sys.argv[1]
        found = load("arrays:" + home + "/data", validation=5, cache_dir=home + "/cache")
        print(zlib.crc32(np.ascontiguousarray(found.splits["train"].images)))
    """
    rng = np.random.default_rng(0)
    (home / "data").mkdir()
    for split, count in {"train": 400, "test": 50}.items():
        images = rng.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
        np.savez(home / "data" / f"{split}.npz", images=images, labels=np.arange(count) % 3)
    command = [sys.executable, "-c", textwrap.dedent(program), str(home)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert len(outputs) == 1
    assert len(folders(home)) == 1
