"""Cloud launchers by what they print and call: no TPU and no cluster is at hand, `gcloud` and `kubectl` are made up."""

import json
import os
import shlex
import stat
import subprocess
import sys
import tarfile

import pytest
import yaml

import accelerators
import gke
import tpu_pod
from jaxreg import commands
from support.checkout import ROOT

STUDY = ["launcher", "--config=configs/digits.py", "--config.seeds=8", "--workdir=gs://bucket/digits"]
TPU = ["--accelerator=v5litepod-16", "--project=mine", "--zone=us-west4-a"]
SLICE = ["--accelerator=tpu-v5-lite-podslice", "--topology=4x4", "--image=registry/jaxreg:1"]
GPU = ["--accelerator=nvidia-h100-80gb", "--nodes=2", "--gpus=8", "--image=registry/jaxreg:1"]
RUN = "-m jaxreg study --config=configs/digits.py --config.seeds=8 --workdir=gs://bucket/digits"
RUN += " --config.execution.distributed=auto"


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tpu_pod, "PAUSE", 0.0)


def printed(launcher, capsys, *more):
    assert commands.launched(launcher.launch, [*STUDY, *more, "--dry_run"]) == 0
    return capsys.readouterr().out


GOLDEN = """\
# pack the working tree
sh -c 'git ls-files -z --cached --others --exclude-standard | tar --create --gzip --null --files-from=- \
--file=jaxreg.tar.gz .git'
# ask for a slice, and look every 30 s until it is ACTIVE
gcloud compute tpus queued-resources create digits --project=mine --zone=us-west4-a --node-id=digits \
--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot
gcloud compute tpus queued-resources describe digits --project=mine --zone=us-west4-a '--format=value(state.state)'
# install on every host
gcloud compute tpus tpu-vm scp jaxreg.tar.gz digits:jaxreg.tar.gz --project=mine --zone=us-west4-a --worker=all
gcloud compute tpus tpu-vm ssh digits --project=mine --zone=us-west4-a --worker=all INSTALL
# run the study, one process a host
gcloud compute tpus tpu-vm ssh digits --project=mine --zone=us-west4-a --worker=all RUN
# if that failed: was the slice taken away? then delete it, and go on from asking
gcloud compute tpus tpu-vm describe digits --project=mine --zone=us-west4-a '--format=value(state)'
gcloud compute tpus queued-resources delete digits --project=mine --zone=us-west4-a --force --quiet
# when it is done, or failed for good
gcloud compute tpus queued-resources delete digits --project=mine --zone=us-west4-a --force --quiet
"""


def test_a_pod_prints_every_command(capsys):
    install = shlex.quote("--command=" + "; ".join(["set -e", *tpu_pod.INSTALL]))
    run = f"--command=echo $$ > jaxreg.pid; cd jaxreg && exec env TFDS_DATA_DIR=gs://b/tfds .venv/bin/python {RUN}"
    expected = GOLDEN.replace("INSTALL", install).replace("RUN", shlex.quote(run))
    assert printed(tpu_pod, capsys, *TPU, "--spot", "--env=TFDS_DATA_DIR=gs://b/tfds") == expected


def test_a_pod_without_spot_that_is_kept(capsys):
    text = printed(tpu_pod, capsys, *TPU, "--keep")
    assert "--spot" not in text
    assert "when it is done" not in text


def jobset(capsys, *more):
    text = printed(gke, capsys, *more)
    assert text.startswith("# kubectl apply -f -\n")
    found = yaml.safe_load(text)
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    return found, job, job["template"]["spec"], job["template"]["spec"]["containers"][0]


def test_a_tpu_slice_of_gke(capsys):
    found, job, pod, container = jobset(capsys, *SLICE, "--spot", "--service_account=trainer", "--namespace=lab")
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["metadata"] == {
        "name": "digits",
        "namespace": "lab",
        "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
    }
    assert (job["completionMode"], job["completions"], job["parallelism"], job["backoffLimit"]) == ("Indexed", 4, 4, 0)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert pod["serviceAccountName"] == "trainer"
    assert [t["key"] for t in pod["tolerations"]] == ["cloud.google.com/gke-spot"]
    assert container["command"] == ["python", *RUN.split()]
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"google.com/tpu": 4}
    assert [e["name"] for e in container["env"]] == ["PYTHONUNBUFFERED"]  # TPU hosts find each other


def test_preempted_jobs_start_again_without_end(capsys):
    found, job, pod, container = jobset(capsys, *SLICE, "--max_restarts=5")
    policy = found["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 5
    assert [(r["action"], r["onJobFailureReasons"]) for r in policy["rules"]] == [
        ("RestartJobSetAndIgnoreMaxRestarts", ["PodFailurePolicy"])
    ]
    exits, disruption = job["podFailurePolicy"]["rules"]
    assert exits["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [75]}
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert {exits["action"], disruption["action"]} == {"FailJob"}
    assert pod["restartPolicy"] == "Never"  # or Kubernetes refuses a podFailurePolicy


def test_gpus_of_gke(capsys):
    found, job, pod, container = jobset(capsys, *GPU, "--name=h100s", "--env=FLAGS=$(x) 'y' \"z\"")
    assert job["completions"] == 2
    assert "annotations" not in found["metadata"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert "tolerations" not in pod
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    env = {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}
    assert env["JAX_COORDINATOR_ADDRESS"] == "h100s-workers-0-0.h100s:8476"
    assert env["JAX_NUM_PROCESSES"] == "2"
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert env["JAX_PROCESS_ID"] == {"fieldRef": {"fieldPath": index}}
    assert env["FLAGS"] == "$$(x) 'y' \"z\""  # Kubernetes makes $(x) of $$(x)
    assert pod["volumes"][0]["name"] == container["volumeMounts"][0]["name"]


@pytest.mark.parametrize(
    ("accelerator", "topology", "hosts", "chips"),
    [
        ("tpu-v5-lite-podslice", "2x4", 1, 8),
        ("tpu-v6e-slice", "1x1", 1, 1),
        ("tpu-v5-lite-podslice", "16x16", 64, 4),
        ("tpu-v5p-slice", "2x2x1", 1, 4),
        ("tpu-v4-podslice", "2x2x4", 4, 4),
    ],
)
def test_hosts_and_chips_of_slices(accelerator, topology, hosts, chips):
    found = accelerators.tpu_slice(accelerator, topology)
    assert (found.hosts, found.chips) == (hosts, chips)


@pytest.mark.parametrize(
    ("launcher", "words", "error"),
    [
        (tpu_pod, [*STUDY, *TPU[:1], *TPU[2:]], "--project is missing: name one"),
        (tpu_pod, [*STUDY, *TPU[:2]], "--zone is missing: name one"),
        (tpu_pod, [*STUDY, *TPU, "--accelerator=v9-8"], "'v9-8' is no TPU; known: v6e-N"),
        (tpu_pod, [*STUDY, *TPU, "--accelerator=v5litepod-12"], "no such size: N of v5litepod-N is one of"),
        (tpu_pod, [*STUDY, *TPU, "--accelerator=v4-12"], "is a multiple of 8"),
        (tpu_pod, [*STUDY, *TPU, "--workdir=/shared/x"], "--workdir='/shared/x' must be gs://BUCKET/PATH"),
        (tpu_pod, [*STUDY[:3], *TPU], "--workdir='' must be gs://"),
        (tpu_pod, [*STUDY, *TPU, "--name=Digits_1"], "--name='Digits_1' must be lower case"),
        (tpu_pod, [*STUDY, *TPU, "--env=3"], "--env='3' must be NAME=VALUE"),
        (tpu_pod, ["x", *STUDY[2:], *TPU], "--config is missing"),
        (tpu_pod, ["x", f"--config={ROOT}/configs/digits.py", *STUDY[3:], *TPU], "must be a path below the checkout"),
        (tpu_pod, [*STUDY, *TPU, "--config.seeds=0"], "config.seeds must be at least 1"),
        (tpu_pod, [*STUDY, *TPU, "--config.seeds", "9"], "must hold its value"),
        (gke, [*STUDY, *SLICE[:2]], "--image is missing"),
        (gke, [*STUDY, *SLICE, "--accelerator=v5litepod-16"], "'v5litepod-16' is unknown to GKE; known: nvidia-a100"),
        (gke, [*STUDY, *SLICE, "--topology=4x4x4"], "must be 2 numbers for tpu-v5-lite-podslice, such as 4x4"),
        (gke, [*STUDY, *SLICE, "--topology="], "--topology='' must be 2 numbers"),
        (gke, [*STUDY, *SLICE, "--topology=3x3"], "must be of whole machines of 4 chips"),
        (gke, [*STUDY, *GPU, "--topology=4x4"], "is of TPU slices: GPUs take --nodes and --gpus"),
        (gke, [*STUDY, *GPU, "--gpus=0"], "--gpus must be at least 1, got 0"),
    ],
)
def test_errors_are_one_line(launcher, words, error, capsys):
    assert commands.launched(launcher.launch, [*words, "--dry_run"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert error in err


def test_hosts_get_what_git_does_not_ignore(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name, text in {"known.py": "", "new one.py": "", "secret": "", ".gitignore": "secret\n"}.items():
        (checkout / name).write_text(text)
    for words in (["init", "--quiet"], ["add", "known.py"]):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    subprocess.run(tpu_pod.archive(str(tmp_path / "it's.tar.gz")), cwd=checkout, check=True)
    with tarfile.open(tmp_path / "it's.tar.gz") as packed:
        assert {"known.py", "new one.py", ".gitignore", ".git/HEAD"} <= set(packed.getnames())
        assert "secret" not in packed.getnames()


SCRIPTED = f"""#!{sys.executable}
import json, pathlib, sys
place = pathlib.Path(__file__).parent
script = json.loads((place / "script.json").read_text())
words = " ".join(sys.argv[1:])
if words.startswith("apply"):
    words += sys.stdin.read()
with (place / "calls").open("a") as file:
    print(json.dumps(words), file=file)
for key, answers in script.items():
    if key in words:
        code, out, err = answers.pop(0) if len(answers) > 1 else answers[0]
        (place / "script.json").write_text(json.dumps(script))
        print(out)
        print(err, file=sys.stderr)
        sys.exit(code)
"""


KINDS = ("exec env", "queued-resources describe", "tpu-vm describe", "create", "delete", "scp", "set -e", "apply")
ASKED, INSTALLED = "queued-resources describe", ["scp", "set -e", "exec env"]


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Puts a `gcloud` and a `kubectl` on the path that answer by a script, the last answer for ever."""

    def install(script):
        for name in ("gcloud", "kubectl"):
            (tmp_path / name).write_text(SCRIPTED)
            (tmp_path / name).chmod(stat.S_IRWXU)
        (tmp_path / "script.json").write_text(json.dumps(script))
        monkeypatch.setattr(tpu_pod, "archive", lambda path: ["true"])
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def calls():
        lines = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
        return [next(kind for kind in KINDS if kind in line) for line in lines], lines

    return install, calls


ABSENT = [1, "", "ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Resource"]
DID, FAILED = [0, "", ""], [1, "", "trouble"]


def states(*words):
    return [ABSENT if word is None else [0, word, ""] for word in words]


def test_a_slice_that_is_taken_away_is_asked_for_again_and_the_same_command_runs(made_up):
    install, calls = made_up
    queued = states(None, "WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDED", None, "ACTIVE")
    install({"queued-resources describe": queued, "exec env": [FAILED, DID]})
    assert commands.launched(tpu_pod.launch, [*STUDY, *TPU, "--spot"]) == 0
    kinds, lines = calls()
    expected = [ASKED, "create", ASKED, ASKED, *INSTALLED, ASKED, "delete"]
    assert kinds == [*expected, ASKED, "create", ASKED, *INSTALLED, "delete"]
    first, second = (line for line in lines if "exec env" in line)
    assert first == second
    assert f".venv/bin/python {RUN}" in first


def test_a_suspended_slice_of_an_earlier_start_is_deleted_first(made_up):
    install, calls = made_up
    install({"queued-resources describe": states("SUSPENDED", None, "ACTIVE")})
    assert commands.launched(tpu_pod.launch, [*STUDY, *TPU, "--keep"]) == 0
    kinds, _ = calls()
    assert [kind for kind in kinds if kind != ASKED] == ["delete", "create", *INSTALLED]


def test_a_preempted_node_of_an_active_resource_is_lost_too(made_up):
    install, calls = made_up
    node = {"tpu-vm describe": states("PREEMPTED")}
    queued = {"queued-resources describe": states("ACTIVE", "ACTIVE", None, "ACTIVE")}
    install(node | queued | {"exec env": [FAILED, DID]})
    assert commands.launched(tpu_pod.launch, [*STUDY, *TPU, "--retries=0"]) == 0
    assert calls()[0].count("exec env") == 2


def test_a_study_that_saved_and_stopped_is_no_death(made_up):
    install, calls = made_up
    sound = {"queued-resources describe": states("ACTIVE"), "tpu-vm describe": states("READY")}
    install(sound | {"exec env": [[75, "", ""], [75, "", ""], DID]})
    assert commands.launched(tpu_pod.launch, [*STUDY, *TPU, "--retries=0"]) == 0
    assert calls()[0].count("exec env") == 3


def test_a_slice_that_cannot_be_had_ends_the_launcher_and_costs_nothing(made_up, capsys):
    install, calls = made_up
    install({"queued-resources describe": states(None, "FAILED", None, "FAILED", None, "ACTIVE")})
    assert commands.launched(tpu_pod.launch, [*STUDY, *TPU, "--retries=1"]) == 2
    assert "FAILED 2 times before it was there" in capsys.readouterr().err
    assert [kind for kind in calls()[0] if kind != ASKED] == ["create", "delete", "create", "delete"]


def test_a_study_that_fails_on_a_sound_slice_fails_for_good_and_stops_costing(made_up, capsys):
    install, calls = made_up
    sound = {"queued-resources describe": states("ACTIVE"), "tpu-vm describe": states("READY")}
    install(sound | {"exec env": [FAILED]})
    assert commands.launched(tpu_pod.launch, [*STUDY, *TPU, "--retries=1"]) == 1
    kinds, _ = calls()
    assert kinds.count("exec env") == 2
    assert kinds[-1] == "delete"
    assert "failed on a sound slice, 2 of 2 times" in capsys.readouterr().err


def test_what_gcloud_cannot_tell_ends_the_launcher(made_up, capsys):
    install, calls = made_up
    install({"queued-resources describe": [[1, "", "ERROR: You do not currently have an active account"]]})
    assert commands.launched(tpu_pod.launch, [*STUDY, *TPU]) == 2
    assert "gcloud cannot tell (ERROR: You do not currently have an active account)" in capsys.readouterr().err
    assert calls()[0] == [ASKED]


def test_kubectl_gets_the_text_that_a_dry_run_prints(made_up, capsys):
    install, calls = made_up
    install({"nothing": [DID]})
    text = printed(gke, capsys, *SLICE)
    assert commands.launched(gke.launch, [*STUDY, *SLICE]) == 0
    (line,) = calls()[1]
    assert line.removeprefix("apply -f -").strip() == text.removeprefix("# kubectl apply -f -\n").strip()


def test_a_jobset_that_the_cluster_refuses(made_up, capsys):
    install, _ = made_up
    install({"apply": [FAILED]})
    assert commands.launched(gke.launch, [*STUDY, *SLICE]) == 2
    assert "`kubectl delete jobset digits`" in capsys.readouterr().err
