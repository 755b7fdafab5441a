"""Ray Data on a local cluster of two workers against the same calls on the poses themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: In a process of its own: Ray starts processes and threads that outlive a test, and warns of sockets.
SCRIPT = """
import os, tempfile
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import numpy as np, ray, smplx, torch
import poseprior
from poseprior import scale
from poseprior.fitting import FitBodyConfig, Joints3D, fit_body, stand_in_body
from poseprior.tasks import score

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
prior = poseprior.load("body-mixture")
pose = prior.sample(120, generator=torch.Generator().manual_seed(0))
observed = torch.rand(120, 55, generator=torch.Generator().manual_seed(1)) < 0.7
rows = [{"id": k, "poses": p, "observed": o} for k, (p, o) in enumerate(zip(pose.numpy(), observed.numpy()))]
data = ray.data.from_items(rows, override_num_blocks=3)

def taken(dataset):
    return sorted(dataset.take_all(), key=lambda row: row["id"])

found = taken(scale.score(data, prior, workers=2, batch_size=40))
plain = score(prior, pose, observed=observed, generator=torch.Generator().manual_seed(0))
for name in ("log_prob", "percentile", "joint_percentile", "attribution"):
    np.testing.assert_allclose(np.stack([row[name] for row in found]), getattr(plain, name).numpy(), rtol=1e-3, atol=1e-2)

first, again = (taken(scale.complete(data, "body-mixture", num_samples=3, workers=2, batch_size=40)) for _ in range(2))
drawn = np.stack([row["completed"] for row in first])
assert drawn.shape == (120, 3, 55, 3)
assert (drawn == np.stack([row["completed"] for row in again])).all()
shown = observed.numpy()
assert (drawn.transpose(1, 0, 2, 3)[:, shown] == pose.numpy()[shown]).all()
both = torch.from_numpy(drawn[:, 0])
own = prior.log_prob(both).mean() - prior.log_prob(pose).mean()  # completions are as likely as the prior's own samples
assert abs(float(own)) < 6.0, own

with tempfile.TemporaryDirectory() as folder:
    model = smplx.create(str(stand_in_body(folder)), model_type="smplx", use_pca=False, flat_hand_mean=True)
joints = model(body_pose=pose[:1, 1:22].flatten(1)).joints[:, :55].detach()
config = FitBodyConfig(iterations=5)
frames = ray.data.from_items([{"id": 0, "keypoints": joints[0].numpy()}])
(fitted,) = taken(scale.fit(frames, prior, layout="smplx_55", config=config, workers=1))
plain = fit_body(model, Joints3D(joints), prior=prior, config=config)
np.testing.assert_allclose(fitted["pose"], plain.pose[0].numpy(), atol=1e-3)
assert fitted["body_pose"].shape == (63,) and "energy" in fitted

for bad, says in (
    (lambda: scale.score(ray.data.from_items([{"pose": 1}]), prior), "dataset: expected a column 'poses', got pose"),
    (lambda: scale.score([1], prior), "dataset: expected a ray.data.Dataset, got list"),
    (lambda: scale.score(data, poseprior.GaussianPrior("body")), "prior: expected a fitted prior without a context"),
    (lambda: scale.fit(frames, prior, layout="smplx_55", focal=3.0), "focal, center: expected both or none"),
):
    try:
        bad()
    except ValueError as error:
        assert says in str(error), error
    else:
        raise AssertionError(says)
print("the same")
"""


@pytest.mark.slow
def test_two_workers_give_the_plain_results(tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    pytest.importorskip("smplx")
    done = _run(SCRIPT, tmp_path)
    assert done.returncode == 0 and "the same" in done.stdout, done.stderr[-3000:]


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    script = """
import os
os.environ |= {"RAY_ADDRESS": "127.0.0.1:1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "5"}
from poseprior.scale.ray_data import require_ray
try:
    require_ray()
except ValueError as error:
    print("refused:", error)
"""
    done = _run(script, tmp_path)
    assert "refused: ray: expected a cluster to connect to, got" in done.stdout, done.stderr[-2000:]


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from poseprior import scale

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ValueError, match=r"ray: expected Ray Data, which is not installed; run: pip install .poseprior\[ray\]."
    ):
        scale.score(object(), "body-mixture")  # type: ignore[arg-type]


def _run(script: str, folder: Path) -> Any:
    path = folder / "script.py"
    path.write_text(script)
    # Ray lowers the priority of its workers, which starve on a busy machine.
    environment = {
        "RAY_worker_niceness": "0",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=environment, timeout=600)
