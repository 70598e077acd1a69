"""What each number was measured with: a table beside the results, one row a trial, probe and condition."""

from collections.abc import Mapping, Sequence

import pandas as pd

from jaxreg import results
from jaxreg.runtime.files import read_json, write_whole
from jaxreg.runtime.workdir import Workdir

COLUMNS = ["study", "program", "trial", "probe", "condition", "value"]  # texts


def gather(workdir: Workdir) -> None:
    """Joins what the markers of a workdir's probes say into conditions.parquet."""
    tables = [_of_program(workdir, path.parent.name, path.stem) for path in workdir.probed(".json")]
    table = pd.concat([pd.DataFrame(columns=COLUMNS, dtype=str), *tables], ignore_index=True)
    write_whole(workdir.conditions, table.to_parquet(index=False))


def read(workdirs: Sequence[Workdir]) -> pd.DataFrame:
    """The conditions of several workdirs; of one that was measured before there were any, none."""
    tables = [pd.read_parquet(workdir.conditions) for workdir in workdirs if workdir.conditions.exists()]
    return pd.concat([pd.DataFrame(columns=COLUMNS, dtype=str), *tables], ignore_index=True)


def _of_program(workdir: Workdir, probe: str, program: str) -> pd.DataFrame:
    given: Mapping[str, str] = read_json(workdir.marker(probe, program))["conditions"]
    trials = results.read(workdir.rows(probe, program))[["study", "program", "trial"]].drop_duplicates()
    names = pd.DataFrame({"condition": list(given), "value": list(given.values())}, dtype=str)
    return trials.assign(probe=probe).merge(names, how="cross")[COLUMNS]
