"""What of jobs of many processes can be told by one: how a process names its place, and that alone it is the first."""

import jax
import pytest

from jaxreg.runtime import hosts
from jaxreg.spec import ExecutionSpec, SpecError


@pytest.mark.parametrize("place", ["", "auto", "slurm", "host-0:1234,2,1", "[::1]:80,16,15"])
def test_places_of_a_process(place):
    assert ExecutionSpec(distributed=place).distributed == place


@pytest.mark.parametrize("place", ["Auto", "host:1234", "host,2,1", "host:1234,2,2", "host:1234,2,-1", "h:x,2,1"])
def test_another_place_is_refused(place):
    with pytest.raises(SpecError, match=r"must be '', 'auto', 'slurm' or HOST:PORT,PROCESSES,INDEX .* got"):
        ExecutionSpec(distributed=place)


def test_slurm_without_srun_is_one_line(monkeypatch):
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(SpecError, match=r"needs SLURM_STEP_NODELIST, SLURM_PROCID: start the job with srun"):
        hosts.join("slurm", 60)


def test_alone_a_process_is_the_first_and_agrees_with_itself():
    assert hosts.count() == 1
    assert hosts.is_first()
    assert hosts.on_first(lambda: [1]) == [1]
    assert hosts.one_first(lambda: {2}) == {2}
    assert hosts.all_hold(True)
    assert not hosts.all_hold(False)
    with pytest.raises(KeyError):
        hosts.everywhere(lambda: {}["absent"])


GLOO = "UNKNOWN: Gloo AllGather failed: [pair.cc:538] Read error [127.0.0.1]:23196: Connection reset by peer"


@pytest.mark.parametrize("kind", [ValueError, jax.errors.JaxRuntimeError])
def test_a_process_that_is_gone_is_known_whichever_way_jax_says_it(kind):
    assert hosts.is_loss(kind(GLOO))
    assert hosts.is_loss(kind("INTERNAL: Barrier failed because: Task 1 heartbeat timeout."))
    assert not hosts.is_loss(kind("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."))


def test_an_error_of_ones_own_is_no_lost_process():
    assert hosts.is_loss(TimeoutError("DEADLINE_EXCEEDED: Barrier timed out"))
    assert not hosts.is_loss(ValueError("the heartbeat must be positive"))
    assert not hosts.is_loss(KeyError("UNAVAILABLE: coordination"))
