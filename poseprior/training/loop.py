"""The only training loop: plain PyTorch, resumable to the bit, one process or many."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..devices import usable_device
from ..io.dataset import PoseDataset
from ..prior import PosePrior
from .batches import BatchSource, derived_seed
from .closed_form import closed_form_result
from .config import FitOptions, FitResult
from .generators import borrowed_generators
from .interrupt import Interruption, interruption
from .state import Progress, check_folder, load_state, save_state
from .tensorboard import TensorBoardLog
from .validation import held_out_rows, mean_nll, mean_selection_penalty

logger = logging.getLogger(__name__)

_LOSS_SMOOTHING = 0.98
_MOST_BAD_STEPS = 50
#: Options that may differ between a run and its resumption: they do not change the steps taken, only where they end.
_FREE_OPTIONS = frozenset(
    "max_steps minutes patience checkpoint_dir checkpoint_every resume tensorboard_dir device progress".split()
)


def run_loop(
    prior: PosePrior,
    train: PoseDataset,
    val: PoseDataset | None,
    config: FitOptions,
    *,
    start_seconds: float = 0.0,
) -> FitResult:
    """Train `prior` in place and leave it with the best validated (or last averaged) weights, in evaluation mode.

    Called by `fit`; `start_seconds` is what the start took, which counts towards `minutes`. With torch.distributed
    initialised (torchrun), every rank takes its share of each batch and all ranks end with the same weights.
    """
    prior.to(usable_device(config.device or ("cuda" if torch.cuda.is_available() else "cpu")))
    if config.max_steps == 0 or not any(p.requires_grad for p in prior.parameters()):
        return replace(closed_form_result(prior, train, val, config), seconds=start_seconds)
    return _Run(prior, train, val, config, start_seconds).run()


class _Run:
    """State of one training run."""

    def __init__(
        self,
        prior: PosePrior,
        train: PoseDataset,
        val: PoseDataset | None,
        config: FitOptions,
        start_seconds: float,
    ) -> None:
        self.prior, self.config, self.start_seconds = prior, config, start_seconds
        self.distributed = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self.distributed else 0
        world = dist.get_world_size() if self.distributed else 1
        self.device = next(prior.parameters()).device
        self.source = BatchSource(train, prior.joints, config, rank=self.rank, world_size=world)
        self.val = None if val is None else held_out_rows(prior, val, "val", config)
        self.optimiser = torch.optim.AdamW(_parameter_groups(prior, config), lr=config.learning_rate, fused=True)
        self.average = _copy(prior)
        self.best: dict[str, Tensor] = {}
        self.progress = Progress()
        self.loading = self.stepping = 0.0  # seconds, of this run
        options = {k: v for k, v in asdict(config).items() if k not in _FREE_OPTIONS}
        options |= {f"model.{k}": v for k, v in prior.get_config().items()}
        options = json.loads(json.dumps(options))  # as a checkpoint gives it back
        self.fingerprint: dict[str, Any] = {
            "class": type(prior).__name__, "joints": list(prior.joints), "train": train.digest(),
            "val": None if val is None else val.digest(), "world_size": world, "dtype": str(prior.dtype), **options,
        }  # fmt: skip
        if self.source.chances is not None:  # by subject and rig, which the digest of the poses does not cover
            self.fingerprint["subjects"] = hashlib.sha256(self.source.chances.numpy().tobytes()).hexdigest()
        self.folder = None if config.checkpoint_dir is None else Path(config.checkpoint_dir)
        if self.folder is not None:
            check_folder(self.folder)
        if self.folder is not None and config.resume:
            restored = load_state(self.folder, self.fingerprint, prior, self.optimiser)
            if restored is not None:
                self.progress, self.average, self.best = restored
                logger.info("resumed %s at step %d", self.folder, self.progress.step)
        self.model: nn.Module = prior
        if self.distributed:
            # Buffers (charts) are the same on every rank by construction; a head may see no joint in a rank's share.
            self.model = DistributedDataParallel(prior, broadcast_buffers=False, find_unused_parameters=True)

    def run(self) -> FitResult:
        progress, config = self.progress, self.config
        log = TensorBoardLog(config.tensorboard_dir if self.rank == 0 else None, first_step=progress.step)
        already, started = progress.seconds + self.start_seconds, time.monotonic()
        consistent, bad_steps, saved = True, 0, progress.step
        progress.stopped = ""
        self.prior.train()
        bar = tqdm(
            total=config.max_steps, initial=progress.step, desc=type(self.prior).__name__, unit="step",
            disable=not (config.progress and self.rank == 0),
        )  # fmt: skip
        with interruption(not self.distributed) as stop:
            try:
                with borrowed_generators(self.device) as seed:
                    while True:
                        progress.seconds = self._agree(already + time.monotonic() - started)
                        if self._validation_is_due():
                            consistent = False
                            self._validate(log, stop)
                            consistent = True
                            bar.set_postfix(nll=_short(progress.train_nll), best_val=_short(progress.best_nll))
                        if progress.step % config.checkpoint_every == 0 and progress.step != saved:
                            self._save()
                            saved = progress.step
                        progress.stopped = "interrupted" if stop.asked else self._reason_to_stop()
                        if progress.stopped:
                            break
                        consistent = False
                        # Dropout and other draws inside the model use torch's own generators: tie them to the step.
                        seed(derived_seed(config.seed, 5, progress.step, self.rank))
                        bad_steps = 0 if self._step() else bad_steps + 1
                        consistent = True
                        if bad_steps > _MOST_BAD_STEPS:
                            raise ValueError(
                                f"learning_rate: the loss was not finite for {bad_steps} steps in a row (at step "
                                f"{progress.step}); use a lower learning_rate than {config.learning_rate}."
                            )
                        bar.update()
            except KeyboardInterrupt:
                progress.stopped = "interrupted"
                consistent = consistent or stop.harmless
            finally:
                bar.close()
                log.close()
        if consistent:
            self._save()
        self.prior.load_state_dict(self.best or self.average)
        self.prior.eval()
        return FitResult(
            steps=progress.step, seconds=progress.seconds, train_nll=progress.train_nll, val_nll=progress.best_nll,
            best_step=progress.best_step if self.best else progress.step, stopped=progress.stopped,
            history=tuple(progress.history), joints=self.prior.joints,
            loading_share=self.loading / self.stepping if self.stepping else None,
        )  # fmt: skip

    def _reason_to_stop(self) -> str:
        progress, config = self.progress, self.config
        if progress.step >= config.max_steps:
            return "max_steps"
        if config.minutes is not None and progress.seconds >= 60.0 * config.minutes:
            return "minutes"
        if config.patience and progress.stale >= config.patience:
            return "early"
        return ""

    def _agree(self, seconds: float) -> float:
        """Rank 0's clock on every rank: the schedule depends on it, and ranks must not drift apart."""
        if not self.distributed or self.config.minutes is None:
            return seconds
        clock = torch.tensor([seconds], dtype=torch.float64, device=self.device)
        dist.broadcast(clock, 0)
        return float(clock)

    def _learning_rate(self) -> float:
        config, progress = self.config, self.progress
        done = progress.step / config.max_steps
        if config.minutes is not None:
            done = max(done, progress.seconds / (60.0 * config.minutes))
        warm = min(1.0, (progress.step + 1) / max(1, config.warmup_steps))
        low = config.final_lr_fraction
        return config.learning_rate * warm * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))

    def _step(self) -> bool:
        progress, config = self.progress, self.config
        rate = self._learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        started = time.monotonic()
        rotvec, observed = self.source.batch(progress.step)
        rotvec, observed = rotvec.to(self.device, self.prior.dtype), observed.to(self.device)
        context = self.source.context(progress.step)
        if context is not None:
            context = context.to(self.device, self.prior.dtype)
        self.loading += time.monotonic() - started
        with self._divergence_named():
            loss = self.model(rotvec, observed, context, progress.step)
        # Ranks' gradients are averaged, whatever their shares: together they are the gradient of the mean over the batch.
        loss = loss * (len(rotvec) * self.source.world_size / config.batch_size)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.prior.parameters())
        norm = nn.utils.clip_grad_norm_(parameters, config.clip_grad_norm or math.inf)
        # The norm is that of averaged gradients, the same on all ranks, so all ranks skip together.
        finite = bool(torch.isfinite(norm))
        if finite:
            self.optimiser.step()
            self._update_average()
            value = float(loss.detach())
            last = progress.train_nll
            progress.train_nll = value if last is None else _LOSS_SMOOTHING * last + (1 - _LOSS_SMOOTHING) * value
        progress.step += 1
        self.stepping += time.monotonic() - started
        return finite

    @contextmanager
    def _divergence_named(self) -> Iterator[None]:
        """Weights so large that a matrix of them has no factor are an error that names the learning rate."""
        try:
            yield
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"learning_rate: the training diverged (at step {self.progress.step}: {error}); use a lower learning_rate "
                f"than {self.config.learning_rate}."
            ) from error

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1.0 + self.progress.step) / (10.0 + self.progress.step))
        for name, value in self.prior.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1.0 - decay)
            else:
                self.average[name].copy_(value)

    def _validation_is_due(self) -> bool:
        """After steps that validate; also at the start of a run that was interrupted in its validation."""
        step, history = self.progress.step, self.progress.history
        regular = step > 0 and (step % self.config.eval_every == 0 or step == self.config.max_steps)
        return regular and (not history or history[-1]["step"] != step)

    def _validate(self, log: TensorBoardLog, stop: Interruption) -> None:
        progress, score = self.progress, math.nan
        record: dict[str, Any] = {"step": progress.step, "train_nll": progress.train_nll}
        current = _copy(self.prior)
        try:
            with stop.at_once():
                self.prior.load_state_dict(self.average)
                self.prior.eval()  # for the log too, whose round trips and samples want no dropout
                if self.val is not None:
                    with self._divergence_named():
                        nll = mean_nll(self.prior, *self.val[:3])
                        score = nll + mean_selection_penalty(self.prior, *self.val[:2])
                    if self.distributed:  # rank 0 decides which weights are best, for all
                        shared = torch.tensor([nll, score], dtype=torch.float64, device=self.device)
                        dist.broadcast(shared, 0)
                        nll, score = shared.tolist()
                    record["val_nll"] = nll
                    if score != nll:
                        record["val_score"] = score
                rate = self.optimiser.param_groups[0]["lr"]
                log.write(self.prior, {**record, "learning_rate": rate}, None if self.val is None else self.val[:2])
        finally:
            self.prior.load_state_dict(current)
            self.prior.train()
        if math.isfinite(score) and (progress.best_score is None or score < progress.best_score):
            progress.best_score, progress.best_nll = score, record["val_nll"]
            progress.best_step, progress.stale = progress.step, 0
            self.best = {k: v.clone() for k, v in self.average.items()}
        elif self.val is not None:
            progress.stale += 1
        progress.history.append(record)

    def _save(self) -> None:
        if self.folder is not None and self.rank == 0:
            args = (self.progress, self.fingerprint, self.prior, self.average, self.best, self.optimiser)
            save_state(self.folder, *args)


def _parameter_groups(prior: nn.Module, config: FitOptions) -> list[dict[str, Any]]:
    """Parameters whose own name begins with `weight`, which are decayed, and the others, which are not."""
    named = [(n, p) for n, p in prior.named_parameters() if p.requires_grad]
    decayed = [p for n, p in named if n.split(".")[-1].startswith("weight")]
    plain = [p for n, p in named if not n.split(".")[-1].startswith("weight")]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
