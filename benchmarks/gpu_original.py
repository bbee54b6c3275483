"""Part `original` of `gpu.py`: our step beside plain PyTorch with the same weights, turn by turn in one process."""

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gpu_kernels import attention_flops
from gpu_report import PartReport
from gpu_step import conditions_of, stepper, velocity
from gpu_workload import Workload, attention, keys, normal, random_model, transformer

COSINE = 0.999
TIMESTEP = 500.0
BACKENDS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION")


def original(job: Workload, report: PartReport) -> None:
    if importlib.util.find_spec("torch") is None:
        report.add("PyTorch is not installed here", left_out="torch is not installed")
        return
    import torch  # optional
    from gpu_torch import PlainStep, to_torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report.add(f"PyTorch {torch.__version__} on {device}", torch=torch.__version__, torch_device=device)
    model = random_model(report, transformer(job, jnp.bfloat16, attention(job)))
    conditions = conditions_of(job, report, model)
    plain = PlainStep(model, conditions)
    start = normal(next(keys(8)), job.clip)
    latents = to_torch(start)
    on_gpu = device != "cpu"

    def waited(run: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        jax.block_until_ready(run())
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    with torch.no_grad():
        both = velocity(model, jnp.concatenate([start] * 2), np.full(2, TIMESTEP, np.float32), conditions)
        theirs = [plain.velocity(latents, TIMESTEP, branch).float().cpu().numpy().ravel() for branch in range(2)]
        cosines = [_cosine(a.ravel(), b) for a, b in zip(np.asarray(both, np.float64), theirs)]
        passed = min(cosines) >= COSINE
        report.add(f"cosines of its velocities and ours {cosines}", cosines=cosines, passed=passed)

        one, runs = stepper(job, report, model, conditions), {"ours": [], "torch": []}
        for turn in range(job.steps + 1):
            for name, run in (("ours", one), ("torch", lambda: plain.step(latents, TIMESTEP, 4.5, 0.02))):
                seconds = waited(run)
                if turn:
                    runs[name].append(seconds)
        ours, beside = (statistics.median(seconds) for seconds in runs.values())
        peak = torch.cuda.max_memory_allocated() if on_gpu else None
        report.add(
            f"a step: ours {ours:.3f} s, plain PyTorch {beside:.3f} s; {beside / ours:.2f} times as fast (wanted 2)",
            seconds=runs,
            times_as_fast=beside / ours,
            torch_peak_bytes=peak,  # beside the weights, which are ours
        )
        _attention(job, report, torch, waited)


def _attention(job: Workload, report: PartReport, torch: Any, waited: Callable[[Callable], float]) -> None:
    """PyTorch's own attention by its kernels."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    trunk = job.dit.trunk
    shape = (2, trunk.num_heads, job.tokens, trunk.head_dim)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    q, k, v = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(3))
    for name in BACKENDS:

        def measure(name=name) -> dict[str, Any]:
            with sdpa_kernel(getattr(SDPBackend, name)):
                run = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)  # noqa: E731
                waited(run)
                seconds = statistics.median(waited(run) for _ in range(2 * job.repeats + 1))
            rate = attention_flops(2 * job.tokens, job.tokens, trunk.dim) / seconds
            return {"ms": 1e3 * seconds, "tflops_a_second": rate / 1e12}

        report.attempt_row("torch_attention", name, measure)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
