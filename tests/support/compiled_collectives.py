"""Which devices exchange numbers in a compiled program."""

import re

import numpy as np


def groups(text: str):
    """The device groups of every collective in compiled text."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    for line in text.splitlines():
        if re.search(rf"= .*\b({kinds})(-start)?\(", line):
            yield from parse(line)


def parse(line: str):
    listed = re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", line)
    if listed:
        return [[int(i) for i in g.split(",")] for g in re.findall(r"\{([\d,]+)\}", listed[1])]
    short = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](T\(([\d,]+)\))?", line)
    if short:
        shape = [int(n) for n in short[3].split(",")]
        ids = np.arange(np.prod(shape)).reshape(shape)
        ids = ids.transpose([int(n) for n in short[5].split(",")]) if short[5] else ids
        return ids.reshape(int(short[1]), int(short[2])).tolist()
    named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line)
    if named:
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        used = re.findall(r"'(\w+)'(?=,|$)", named[2])
        ids = np.arange(np.prod(list(sizes.values()))).reshape(list(sizes.values()))
        axes = [list(sizes).index(name) for name in used]
        assert axes, line
        return np.moveaxis(ids, axes, range(-len(axes), 0)).reshape(-1, np.prod([sizes[n] for n in used])).tolist()
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", line)
    assert pairs, line
    return [[int(i) for i in p.split(",")] for p in re.findall(r"\{([\d,]+)", pairs[1])]
