"""The same training step in PyTorch, one network after another: channels_last, bfloat16, compiled, CUDA graphs."""

import time
from typing import Any

import attack_problem
import jax
import numpy as np

from stages import networks
from stages.report import Options, Report

COMPILING = 60.0  # seconds that torch.compile may take


def compare(report: Report, options: Options, model: str, count: int, dataset: Any) -> None:
    """A row by CUDA graphs alone, and one with torch.compile where there is time for it."""
    what = {"model": model, "trials": count, "way": "torch"}
    for compiled in (False, True):
        if not compiled or options.tiny or report.fits(COMPILING, **what, compiled=True):
            report.compare(lambda c=compiled: measured(options, model, count, dataset, c), **what, compiled=compiled)


def measured(options: Options, model: str, count: int, dataset: Any, compiled: bool) -> dict[str, Any]:
    """Seconds of a step of so many networks in sequence."""
    import torch

    batch = 8 if options.tiny else 128
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = network(options, model, dataset).to(device).to(memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, 32, 32, generator=random).to(device).to(memory_format=torch.channels_last)
    y = torch.nn.functional.one_hot(torch.randint(0, 10, (batch,), generator=random), 10).float().to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    begun = time.perf_counter()
    step = captured(torch, one_step(torch, net, optimizer, x, y, device, compiled), device)
    first, seconds = time.perf_counter() - begun, step_seconds(torch, step, device, 2 if options.tiny else 30)
    rate = batch / seconds
    return {"first": first, "step_of_all": count * seconds, "images_a_second": rate, "torch": torch.__version__}


def network(options: Options, model: str, dataset: Any) -> Any:
    """The network of jaxreg with the weights of its first trial, to be trained."""
    program = networks.in_float32(networks.program_of(options, model, 1, 10_000, 8))
    _, params, stats = networks.trained(program, dataset, 0)
    return as_torch(params, stats, dataset, program.model.name).train().requires_grad_(True)


def as_torch(params: Any, stats: Any, dataset: Any, model: str) -> Any:
    """The network of the first trial in PyTorch."""
    flat = {"mean": dataset.mean, "std": dataset.std, "kind": model}
    for prefix, stacks in {"params": params, "stats": stats}.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(stacks):
            flat["/".join([prefix, *(str(entry.key) for entry in path)])] = np.array(leaf[0])
    return attack_problem.torch_network(flat)


def one_step(torch: Any, net: Any, optimizer: Any, x: Any, y: Any, device: str, compiled: bool) -> Any:
    """A function that trains for one step."""
    forward = torch.compile(net) if compiled else net

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast(device, torch.bfloat16):
            logits = forward(x)
        torch.nn.functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    return step


def captured(torch: Any, step: Any, device: str) -> Any:
    """The step as a CUDA graph; as it is where there is no CUDA."""
    if device != "cuda":
        step()
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def step_seconds(torch: Any, step: Any, device: str, count: int) -> float:
    """Seconds of a step, over many of them."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    step()
    wait()
    begun = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return (time.perf_counter() - begun) / count
