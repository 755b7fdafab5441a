"""Batch transforms of a Ray data set: on one machine or on a cluster, the weights shared once.

Rows hold `poses` (55, 3) rotvecs, radians, and maybe `observed` (55,) bool; other columns go through as they are. Ray is the
extra `ray`.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._checks import check_whole
from ..keypoint_layouts import LayoutInput
from ..pretrained.loading import load
from ..prior import PosePrior
from ..skeleton import NUM_JOINTS
from .ray_fit import FitBatch

if TYPE_CHECKING:
    from ray.data import Dataset

    from ..fitting import FitBodyConfig

Batch = dict[str, NDArray[Any]]
#: How long a cluster has to answer its door.
_KNOCK_SECONDS = 5.0


def score(
    dataset: Dataset, prior: PosePrior | str, *, workers: int | None = None, batch_size: int = 4096, seed: int = 0
) -> Dataset:
    """Every row with `log_prob`, `percentile`, `joint_percentile` and `attribution` (55,), as `poseprior.tasks.score`.

    Args:
        dataset: rows with `poses` and maybe `observed`.
        prior: a fitted prior, or a name or file as `poseprior.load` takes it.
        workers: processes that hold the prior; None for one for each CPU of the cluster.
        batch_size: rows that a worker scores at once.
        seed: of the samples that the poses are compared with, the same in every batch: results do not depend on batches.

    Returns:
        A Ray data set. Nothing runs before it is read or written. Ray keeps the order of rows only where
        `ray.data.DataContext.get_current().execution_options.preserve_order` says so: keep an id in a column.

    Raises:
        ValueError: no Ray, no cluster at the address that Ray is told, a prior that is not fitted or takes a context, or a
            data set without `poses`.
    """
    check_whole("seed", seed)
    return _map(dataset, _Score(seed), prior, workers, batch_size)


def complete(
    dataset: Dataset,
    prior: PosePrior | str,
    *,
    num_samples: int = 1,
    workers: int | None = None,
    batch_size: int = 4096,
    seed: int = 0,
) -> Dataset:
    """Every row with `completed` (num_samples, 55, 3): its missing joints drawn given the others.

    Args:
        dataset: rows with `poses` and `observed`.
        prior, workers, batch_size: as in `score`.
        num_samples: draws for each row.
        seed: of the draws, together with the rows of a batch: the same batches give the same draws on any machine, other
            batches others of the same distribution.

    Returns, raises: as `score`.
    """
    check_whole("num_samples", num_samples, least=1)
    check_whole("seed", seed)
    _require_columns(dataset, "observed")
    return _map(dataset, _Complete(num_samples, seed), prior, workers, batch_size)


def fit(
    dataset: Dataset,
    prior: PosePrior | str | None,
    *,
    layout: LayoutInput,
    model: str | None = None,
    gender: str = "neutral",
    focal: float | None = None,
    center: tuple[float, float] | None = None,
    sigma: float | None = None,
    config: FitBodyConfig | None = None,
    workers: int | None = None,
    batch_size: int = 64,
) -> Dataset:
    """Every row of `keypoints` with the SMPL-X parameters that explain them, as `poseprior.fitting.fit_body`.

    Args:
        dataset: a row is a frame: `keypoints` (K, 2) pixels or (K, 3) metres, maybe `confidence` (K,), 0 where missing.
        prior: as in `score`, or None.
        layout: order of the keypoints, as in `poseprior.keypoint_layouts`.
        model: folder for `smplx.create`, on every machine; None for the licence-free stand-in body.
        gender: of the model.
        focal, center: of the camera, pixels, for 2D keypoints.
        sigma: noise to expect; None for 5 pixels or 0.02 metres.
        config: `FitBodyConfig`, of single frames (`smooth_sigma` None).
        workers, batch_size: as in `score`.

    Returns:
        The rows with `pose` (55, 3), `energy`, `converged`, `num_outliers`, and each argument of the model (`transl`,
        `betas`, `body_pose`, ...) under its name.

    Raises:
        ValueError: as `score`; no camera for 2D keypoints, or one for 3D; a config that smooths over frames.
    """
    _require_columns(dataset, "keypoints")
    work = FitBatch(
        layout=layout, model=model, gender=gender, focal=focal, center=center, sigma=sigma, config=config
    )  # fmt: skip
    return _map(dataset, work, prior, workers, batch_size, poses=False)


@dataclass(frozen=True)
class _Score:
    seed: int

    def __call__(self, prior: PosePrior, batch: Batch) -> Batch:
        from ..tasks import score as score_poses

        pose, observed = _poses(prior, batch)
        generator = torch.Generator(prior.device).manual_seed(self.seed)
        result = score_poses(prior, pose, observed=observed, generator=generator)
        names = ("log_prob", "percentile", "joint_percentile", "attribution")
        return batch | {name: getattr(result, name).cpu().numpy() for name in names}


@dataclass(frozen=True)
class _Complete:
    num_samples: int
    seed: int

    def __call__(self, prior: PosePrior, batch: Batch) -> Batch:
        pose, observed = _poses(prior, batch)
        assert observed is not None
        content = zlib.crc32(observed.cpu().numpy().tobytes(), zlib.crc32(pose.cpu().numpy().tobytes()))
        generator = torch.Generator(prior.device).manual_seed(content + (self.seed << 32))
        drawn = prior.complete(pose, observed, num_samples=self.num_samples, generator=generator)
        return batch | {"completed": drawn.transpose(0, 1).cpu().numpy()}


class _Worker:
    """A process of Ray's: the prior once, then batches."""

    def __init__(self, work: Any, prior: PosePrior | None) -> None:
        self._work, self._prior = work, prior

    def __call__(self, batch: Batch) -> Batch:
        result: Batch = self._work(self._prior, batch)
        return result


def _map(
    dataset: Dataset, work: Any, prior: PosePrior | str | None, workers: int | None, batch_size: int, *, poses: bool = True
) -> Dataset:  # fmt: skip
    ray = require_ray()
    check_whole("batch_size", batch_size, least=1)
    if workers is not None:
        check_whole("workers", workers, least=1)
    if not isinstance(dataset, ray.data.Dataset):
        raise ValueError(
            f"dataset: expected a ray.data.Dataset, got {type(dataset).__name__}; see ray.data.from_numpy."
        )
    if poses:
        _require_columns(dataset, "poses")
    prior = load(prior) if isinstance(prior, str) else prior
    if prior is not None and (not isinstance(prior, PosePrior) or not prior.fitted or prior.context_dim):
        raise ValueError(
            "prior: expected a fitted prior without a context, or the name of one (poseprior.list_pretrained)."
        )
    count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    # Ray puts the arguments into its store once; workers read them from the store of their machine. They claim none of its
    # CPUs: reading and shuffling wait for one, for ever where the workers hold them all.
    return dataset.map_batches(
        _Worker, fn_constructor_args=(work, prior), compute=ray.data.ActorPoolStrategy(size=count), num_cpus=0,
        batch_size=batch_size, batch_format="numpy",
    )  # fmt: skip


def require_ray() -> Any:
    """The package, connected to a cluster (a local one is started where none is named).

    Raises:
        ValueError: Ray is not installed, or its cluster is not there.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ValueError(
            'ray: expected Ray Data, which is not installed; run: pip install "poseprior[ray]".'
        ) from error
    if not ray.is_initialized():
        try:
            _knock(os.environ.get("RAY_ADDRESS", ""))
            ray.init(log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            text = str(error).strip().splitlines()
            raise ValueError(
                f"ray: expected a cluster to connect to, got {type(error).__name__}: {text[0] if text else 'no details'}; start "
                "one (ray start --head), or unset RAY_ADDRESS to use this machine."
            ) from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody answers at host:port: Ray itself tries for minutes. Other forms of address are Ray's."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _require_columns(dataset: Any, name: str) -> None:
    names = dataset.columns() if hasattr(dataset, "columns") else None
    if names is not None and name not in names:
        raise ValueError(
            f"dataset: expected a column {name!r}, got {', '.join(map(str, names))}; rename_columns names it."
        )


def _poses(prior: PosePrior, batch: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Tensor | None]:
    pose = torch.from_numpy(np.array(batch["poses"], np.float32)).to(prior.device)
    if pose.shape[1:] != (NUM_JOINTS, 3):
        raise ValueError(f"poses: expected rows ({NUM_JOINTS}, 3), got {tuple(pose.shape[1:])}.")
    mask = batch.get("observed")
    return pose, None if mask is None else torch.from_numpy(np.array(mask, bool)).to(prior.device)
