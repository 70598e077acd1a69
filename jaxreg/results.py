"""The one table of a study: one row a number, one schema, and no row without a record of where it came from.

`nan` means "could not be computed" and is stored as null; plus and minus infinity are answers (the median radius at
which a model that is never fooled is fooled) and are stored as they are.
"""

import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from etils import epath

from jaxreg.measured import Row
from jaxreg.runtime.files import write_whole
from jaxreg.runtime.workdir import PROVENANCE, Workdir
from jaxreg.setting import Setting
from jaxreg.spec import SpecError, require

SCHEMA = pa.schema(
    [
        pa.field("study", pa.string(), nullable=False),
        pa.field("program", pa.string(), nullable=False),
        pa.field("trial", pa.string(), nullable=False),
        pa.field("regularizer", pa.string(), nullable=False),
        pa.field("hyperparameters", pa.string(), nullable=False),  # JSON, keys sorted
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("probe", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),  # null: could not be computed
        pa.field("n", pa.int64(), nullable=False),  # examples behind the number
        pa.field("low", pa.float64()),  # 95 % interval over examples, null where there is none
        pa.field("high", pa.float64()),
    ]
)
TEXTS = [field.name for field in SCHEMA if field.type == pa.string()]  # few texts, each many times
CODED = pa.schema([f.with_type(pa.dictionary(pa.int32(), pa.string())) if f.name in TEXTS else f for f in SCHEMA])
SETTING = ["study", "regularizer", "hyperparameters"]
MEASURED = ["study", "trial", "probe"]  # what a probe leaves at once
SHOWN = 20  # known values in a message
NUMBER = ["study", "trial", "split", "probe", "metric"]  # what names one number


class Origin(NamedTuple):
    """The trial that a number belongs to."""

    study: str
    program: str
    trial: str
    setting: Setting
    seed: int


def rows_to_table(origin: Origin, probe: str, rows: Iterable[Row]) -> pa.Table:
    """Returns what `probe` found for one trial as rows of the results table (join trials with `pa.concat_tables`)."""
    head = origin._asdict() | origin.setting._asdict() | {"probe": probe}
    return pa.Table.from_pylist([head | _plain(row) for row in rows], schema=SCHEMA)


def write(path: epath.PathLike, table: pa.Table) -> None:
    """Writes `table` to `path`, whole or not at all, with the study's provenance in the metadata of the file.

    Raises: ValueError: if the schema differs, a number is there twice, or no provenance.json lies beside `path` or in
    one of the three folders above it.
    """
    path = epath.Path(path)
    if not table.schema.equals(SCHEMA):
        raise ValueError(f"results must have the schema {SCHEMA.names}, got {table.schema.names}: use rows_to_table.")
    _refuse_repeats(table)
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"provenance": _provenance(path)}), buffer)
    write_whole(path, buffer.getvalue().to_pybytes())


def read(path: epath.PathLike) -> pd.DataFrame:
    """Returns the rows of a results file as a data frame with the columns of `SCHEMA`."""
    return _read_table(epath.Path(path)).to_pandas()


def scan(workdirs: Sequence[Workdir]) -> list[ds.Dataset]:
    """Returns results.parquet of each workdir as a dataset that reads nothing but its schema until it is asked.

    Raises: ValueError: if a file has other columns than `SCHEMA`.
    """
    return [_dataset(workdir.results) for workdir in workdirs]


def select(workdirs: Sequence[Workdir], where: ds.Expression | None = None) -> pd.DataFrame:
    """Returns the rows of many workdirs that fit `where`, each from its home, in the order of the workdirs."""
    return join(workdirs, where)[0].cast(SCHEMA).to_pandas()


def join(
    workdirs: Sequence[Workdir], where: ds.Expression | None = None
) -> tuple[pa.Table, dict[tuple[str, str, str], Workdir]]:
    """Returns the same rows as a table with the schema `CODED`, in which a million rows share a name, and the homes.

    In pandas its texts are categories, which sort by their place and not by letters. A home is the workdir that answers
    for a trial of a study and a probe: of those that measured it the first one.
    """
    homes: dict[tuple[str, str, str], Workdir] = {}
    tables = [CODED.empty_table()]
    for workdir, dataset in zip(workdirs, scan(workdirs)):
        measured = _measured(dataset)
        chosen = _without(measured & homes.keys(), where)
        homes |= dict.fromkeys(measured - homes.keys(), workdir)
        tables.append(dataset.to_table(filter=chosen).replace_schema_metadata(None).cast(CODED))
    return pa.concat_tables(tables).unify_dictionaries(), homes


def _without(twins: set[tuple[str, str, str]], where: ds.Expression | None) -> ds.Expression | None:
    """`where`, and none of the `twins`, which another workdir answers for."""
    for study, probe in {(study, probe) for study, _, probe in twins}:
        trials = [trial for own, trial, other in twins if (own, other) == (study, probe)]
        one = (ds.field("study") == study) & (ds.field("probe") == probe) & ds.field("trial").isin(trials)
        where = ~one if where is None else where & ~one
    return where


def condition(filters: Iterable[str]) -> ds.Expression | None:
    """Returns texts such as `metric=ece*` and `seed=3`, all of which must hold, as one expression; None for none.

    Raises: SpecError: if a column is unknown, or a number is asked for by what is none.
    """
    both: ds.Expression | None = None
    for text in filters:
        column, _, value = text.partition("=")
        require(column in SCHEMA.names, f"results have no column {column!r}; known: {SCHEMA.names}.")
        one = _holds(column, value)
        both = one if both is None else both & one
    return both


def check_known(workdirs: Sequence[Workdir], filters: Iterable[str]) -> None:
    """Raises SpecError where no row fits, naming the filter that none fits alone, and what its column holds."""
    for text in filters:
        column, _, value = text.partition("=")
        if all(dataset.count_rows(filter=condition([text])) == 0 for dataset in scan(workdirs)):
            known = sorted(str(held) for held in select(workdirs)[column].unique())
            near = difflib.get_close_matches(value, known, 3) or known
            some = ", ".join(near[:SHOWN]) + (f", and {len(near) - SHOWN} more" if len(near) > SHOWN else "")
            raise SpecError(f"no row has {text}; {column} is one of {some}.")
    raise SpecError(f"no row fits all of {' '.join(filters)}, though each alone is there: leave one out.")


def gather(workdir: epath.PathLike) -> epath.Path:
    """Joins probes/PROBE/*.parquet of `workdir`, by probe and file name, into results.parquet; returns its path.

    Raises: SpecError: if numbers would be lost without a word: rows are missing beside what else was measured.
    """
    own = Workdir(workdir)
    paths = sorted(own.probed(".parquet"), key=lambda path: (path.parent.name, _natural(path.name)))
    table = pa.concat_tables([SCHEMA.empty_table(), *map(_read_table, paths)])
    _refuse_loss(own, table)
    write(own.results, table)
    return own.results


def _refuse_loss(own: Workdir, table: pa.Table) -> None:
    """Checks that every finished probe has its rows, and that nothing is replaced by an empty table."""
    lacking = [path for path in own.probed(".json") if not path.with_suffix(".parquet").exists()]
    rows, arrays = _rows_in(own.results), len(own.probed(".npz"))
    empty = not len(table) and bool(rows or arrays)
    lost = f"{lacking[0].with_suffix('.parquet')} is missing" if lacking else f"{arrays} files of arrays have none"
    rule = f"{own}: the rows of a probe must lie beside what else it left, but {lost}"
    cure = "put them back, or start the same study again, which measures them anew"
    require(not (lacking or empty), f"{rule}; results.parquet stays as it is ({rows} rows): {cure}.")


def _rows_in(path: epath.Path) -> int:
    """The rows of a results file, 0 where there is none that can be read."""
    with contextlib.suppress(FileNotFoundError, pa.ArrowInvalid):
        return pq.read_metadata(pa.BufferReader(path.read_bytes())).num_rows
    return 0


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns mean, sd over seeds (n - 1 in the denominator), n and the mean ends of the interval, one line each.

    A line is a setting, split and metric. `n` counts the trials with a number, `missing` those without; `sd` is null
    for n = 1 and beside an infinite value.
    """
    groups = frame.groupby([*SETTING, "split", "probe", "metric"], sort=False)["value"]
    line = groups.agg(mean="mean", n="count", size="size").reset_index()
    finite = frame.assign(value=frame["value"].where(np.isfinite(frame["value"])))
    deviation = finite.groupby([*SETTING, "split", "probe", "metric"], sort=False)["value"].std(ddof=1)
    line["sd"] = np.where(np.isfinite(line["mean"]), deviation.to_numpy(), np.nan)
    line["missing"] = line.pop("size") - line["n"]
    ends = frame.groupby([*SETTING, "split", "probe", "metric"], sort=False)[["low", "high"]].mean()
    return line.assign(low=ends["low"].to_numpy(), high=ends["high"].to_numpy())


def _plain(row: Row) -> dict[str, Any]:
    return (
        row._asdict()
        | {name: _null_if_nan(getattr(row, name)) for name in ("value", "low", "high")}
        | {"n": int(row.n)}
    )


def _null_if_nan(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _read_table(path: epath.Path) -> pa.Table:
    table = pq.read_table(pa.BufferReader(path.read_bytes())).replace_schema_metadata(None)
    if table.schema.names != SCHEMA.names:
        raise ValueError(f"{path} must have the columns {SCHEMA.names}, got {table.schema.names}: probe again.")
    return table.cast(SCHEMA)


def _holds(column: str, value: str) -> ds.Expression:
    kind = SCHEMA.field(column).type
    if kind == pa.string():
        pattern = "".join({"*": "%", "%": r"\%", "_": r"\_", "\\": r"\\"}.get(letter, letter) for letter in value)
        return pc.match_like(ds.field(column).cast(pa.string()), pattern)
    try:
        return ds.field(column) == pa.scalar(float(value) if kind == pa.float64() else int(value), kind)
    except ValueError:
        raise SpecError(f"{column} is a number, got {value!r}: write {column}=3.") from None


def _dataset(path: epath.Path) -> ds.Dataset:
    if "://" in str(path):  # the path's own library reads it, whole
        return ds.dataset(_read_table(path).cast(CODED))
    coded = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=TEXTS))
    found = ds.dataset(str(path), format=coded)
    if found.schema.names != SCHEMA.names:
        raise ValueError(f"{path} must have the columns {SCHEMA.names}, got {found.schema.names}: probe again.")
    return found


def _measured(dataset: ds.Dataset) -> set[tuple[str, str, str]]:
    """Which trials of which studies which probes have measured."""
    found = dataset.to_table(columns=MEASURED).unify_dictionaries().to_pandas().drop_duplicates()
    return set(found.itertuples(index=False, name=None))


def _refuse_repeats(table: pa.Table) -> None:
    frame = table.select(NUMBER).to_pandas()
    repeated = frame[frame.duplicated()]
    if len(repeated):
        first = dict(repeated.iloc[0])
        raise ValueError(
            f"a number must be in the results once, got {len(repeated)} again, first {first}: probe again."
        )


def _provenance(path: epath.Path) -> str:
    for folder in list(path.parents)[:4]:
        if (folder / PROVENANCE).exists():
            return (folder / PROVENANCE).read_text()
    raise ValueError(f"results need provenance.json beside or above them, got none for {path}: write it first.")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
