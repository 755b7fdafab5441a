"""On a GPU everything runs and gives what the CPU gives. Skipped where there is none."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from prior_cases import CASES, labels, whole_poses
from torch import Tensor

import poseprior
from poseprior import FitConfig, GlobalFlow, LatentPosePrior, PoseDataset, PosePrior
from poseprior.evaluation import evaluate
from poseprior.fitting import PosePriorTerm
from poseprior.io import synthetic_poses
from poseprior.pretrained.listing import pretrained_files

if not torch.cuda.is_available():
    pytest.skip("needs a GPU that torch can use", allow_module_level=True)

NAMES = sorted(pretrained_files())
#: Float32 sums of a hundred terms, in another order.
_NATS = 2e-3


@cache
def _both(name: str) -> tuple[PosePrior, PosePrior]:
    """The prior on the CPU and on the GPU."""
    return poseprior.load(name), poseprior.load(name, device="cuda")


def _poses(name: str, count: int = 12) -> Tensor:
    return _both(name)[0].sample(count, generator=torch.Generator().manual_seed(0))


def _on_gpu(seed: int = 0) -> torch.Generator:
    return torch.Generator("cuda").manual_seed(seed)


def _value_and_gradient(prior: PosePrior, pose: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
    leaf = pose.clone().requires_grad_()
    value = prior.log_prob(leaf, observed=observed)
    return value.detach().cpu(), torch.autograd.grad(value.sum(), leaf)[0].cpu()


def _mask(prior: PosePrior, count: int) -> Tensor:
    """(count, 55) bool: some rows hide joints that the prior can do without."""
    observed = torch.ones(count, 55, dtype=torch.bool)
    hidden = [20, 21] if not prior.can_marginalise else prior.joints[::3]
    observed[::2, list(hidden)] = False
    return observed


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_log_prob_and_gradient(name: str, masked: bool) -> None:
    cpu, gpu = _both(name)
    pose = _poses(name)
    observed = _mask(cpu, len(pose)) if masked else None
    for got, expected in zip(
        _value_and_gradient(gpu, pose.cuda(), None if observed is None else observed.cuda()),
        _value_and_gradient(cpu, pose, observed),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=_NATS, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_samples_and_completions(name: str) -> None:
    cpu, gpu = _both(name)
    sample = gpu.sample(256, generator=_on_gpu())
    assert sample.is_cuda and bool(torch.isfinite(sample).all())
    assert torch.equal(sample, gpu.sample(256, generator=_on_gpu()))
    reference = cpu.sample(256, generator=torch.Generator().manual_seed(1))
    spread = reference[:, list(cpu.joints)].std(0).clamp_min(0.02)
    off = (sample.cpu() - reference)[:, list(cpu.joints)].mean(0) / spread
    assert off.abs().max() < 0.6
    pose, observed = sample[:8], _mask(gpu, 8).cuda()
    done = gpu.complete(pose, observed, num_samples=2, generator=_on_gpu())
    assert done.is_cuda and done.shape == (2, 8, 55, 3) and bool(torch.isfinite(done).all())
    kept = observed.clone()
    assert torch.equal(done[0][kept], pose[kept])


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(poseprior.load(name), LatentPosePrior)])
def test_latents(name: str) -> None:
    cpu, gpu = _both(name)
    assert isinstance(cpu, LatentPosePrior) and isinstance(gpu, LatentPosePrior)
    latent = torch.randn(6, gpu.latent_dim, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(gpu.decode(latent.cuda()).cpu(), cpu.decode(latent), atol=2e-3, rtol=0.0)
    assert gpu.encode(_poses(name, 4).cuda()).is_cuda


@pytest.mark.parametrize("name", NAMES)
def test_tasks(name: str) -> None:
    _, gpu = _both(name)
    pose = _poses(name, 4).cuda()
    result = poseprior.tasks.score(gpu, pose)
    assert result.log_prob.is_cuda and bool(torch.isfinite(result.percentile).all())
    clean = poseprior.tasks.denoise(gpu, pose, 0.1)
    path = poseprior.tasks.interpolate(gpu, pose[0], pose[1], 5)
    for each in (clean, path):
        assert each.is_cuda and bool(torch.isfinite(each).all())
    poseprior.tasks.denoise(gpu, pose[:1], 0.1, method="mean", num_samples=16, generator=_on_gpu())
    assert "joint" in str(poseprior.tasks.check(gpu, _poses(name, 40).cuda()))


@pytest.mark.parametrize("name", NAMES)
def test_saved_from_the_gpu_loads_on_the_cpu(name: str, tmp_path: Path) -> None:
    cpu, gpu = _both(name)
    gpu.save(tmp_path / "prior.safetensors")
    again = poseprior.load(tmp_path / "prior.safetensors")
    pose = _poses(name, 3)
    torch.testing.assert_close(again.log_prob(pose), cpu.log_prob(pose), atol=0.0, rtol=0.0)


@pytest.mark.parametrize("case", sorted(CASES))
def test_training_takes_the_gpu(case: str, tmp_path: Path) -> None:
    own = CASES[case]
    prior, data = own.build(own.joints), own.data()
    if prior.context_dim:
        data = PoseDataset(whole_poses(), context=labels(prior, whole_poses()))
    result = prior.fit(data, val=data, config=own.few_steps())
    assert {p.device.type for p in prior.parameters()} <= {"cuda"}
    assert result.steps >= 0 and all(p.is_cuda for p in prior.parameters())
    if not prior.context_dim:
        assert bool(torch.isfinite(prior.log_prob(prior.sample(4))).all())


def test_a_checkpoint_of_the_gpu_is_read(tmp_path: Path) -> None:
    data = synthetic_poses(400, seed=0)
    config = FitConfig(
        max_steps=20, batch_size=64, warmup_steps=2, eval_every=10, progress=False, checkpoint_dir=str(tmp_path / "run")
    )
    first, again = GlobalFlow("body"), GlobalFlow("body")
    first.fit(data, config=config)
    again.fit(data, config=config)
    pose = data.poses[:8].cuda()
    assert torch.equal(again.log_prob(pose), first.log_prob(pose))


def test_evaluation_and_adapting() -> None:
    gpu = _both("body-gaussian")[1]
    data = synthetic_poses(120, seed=0)
    assert evaluate(gpu, data)
    adapted = gpu.adapt(data, steps=3)
    assert bool(torch.isfinite(adapted.log_prob(data.poses[:4].cuda())).all())


def test_a_term_in_ones_own_loop() -> None:
    gpu = _both("whole-body")[1]
    term = PosePriorTerm(gpu)
    pose = _poses("whole-body", 2).cuda().requires_grad_()
    energy = term(pose)
    energy.sum().backward()
    assert energy.is_cuda and pose.grad is not None and bool(torch.isfinite(pose.grad).all())


def test_poses_on_another_device_come_to_the_prior() -> None:
    cpu, gpu = _both("body-gaussian")
    pose = _poses("body-gaussian", 2)
    for prior, other in ((cpu, pose.cuda()), (gpu, pose)):
        found = prior.log_prob(other)
        assert found.device == next(prior.parameters()).device
        torch.testing.assert_close(found.cpu(), cpu.log_prob(pose), atol=_NATS, rtol=1e-4)
