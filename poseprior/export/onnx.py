"""Priors as ONNX files, for onnxruntime on servers, phones and in browsers. Needs `pip install "poseprior[onnx]"`."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import skeleton
from .._checks import check_effect, check_ending, quoted
from ..io.atomic import replacing
from ..prior import LatentPosePrior, PosePrior
from .functions import Function, function_of

#: How far a graph may be from the prior: nats, or radians, and as much more as the row's largest value is beyond this.
_TOLERANCE, _SCALE = 1e-4, 100.0
#: The same for gradients: in single precision those of a VAE are off by 1e-5 of their largest entry.
_GRADIENT_SCALE = 4.0
_CHECKED_POSES = 16


def export_onnx(
    prior: PosePrior,
    path: str | os.PathLike[str],
    *,
    what: Sequence[str] = ("log_prob",),
    hide: str | Iterable[str | int] = (),
) -> dict[str, Path]:
    """Write functions of a prior as ONNX graphs of standard operators, in single precision, for any batch size.

    Every graph is run by onnxruntime and compared with the prior before its file is there.

    Args:
        prior: without context.
        path: of the file, ending in `.onnx`. Several functions go into several files, with their names before that.
        what: of "log_prob" (pose to log_prob), "grad" (pose to log_prob and its gradient), "sample" (normal and, where it
            is an input, uniform noise to pose), "decode" (latent to pose) and "complete" (pose and noise to completed).
        hide: joints that "complete", and it alone, draws, as `poseprior.skeleton.resolve_joints` takes them.

    Returns:
        The file of each function.

    Raises:
        ValueError: what this prior does not have, another suffix, packages that are missing, or a graph that is not the
            prior's function.
    """
    names = [what] if isinstance(what, str) else list(what)
    target = Path(path)
    check_ending("path", target, ".onnx")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"what: expected one or more different names, got {quoted(names)}.")
    if prior.context_dim:
        raise ValueError("prior: expected a prior without context; graphs have no input for one.")
    if "complete" not in names:
        check_effect("hide", hide or (), (), "no 'complete' in what", "what=('complete',)")
    _require_packages()
    hidden = skeleton.resolve_joints(hide if isinstance(hide, str) else list(hide)) if hide else ()
    plain = copy.deepcopy(prior).to(device="cpu", dtype=torch.float32).eval().requires_grad_(False)
    plain.log_prob(
        torch.zeros(2, skeleton.NUM_JOINTS, 3)
    )  # what weights alone decide is cached: constants of the graph
    if isinstance(plain, LatentPosePrior):
        plain.decode(torch.zeros(2, plain.latent_dim))
    functions = {name: function_of(plain, name, hidden) for name in names}
    files = {}
    for name, function in functions.items():
        files[name] = target if len(names) == 1 else target.with_suffix(f".{name}.onnx")
        with _silent_exporter(), replacing(files[name]) as temporary:
            onnx_program = _graph(function, name)
            onnx_program.model.metadata_props.update(_notes(plain, name, hidden))
            onnx_program.save(temporary, external_data=False)
            _compare(temporary, function, name)
    return files


@contextlib.contextmanager
def _silent_exporter() -> Iterator[None]:
    """Without what the exporter says about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _require_packages() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f'onnx: expected the package {error.name}, not installed; pip install "poseprior[onnx]".'
        ) from error


def _graph(function: Function, name: str) -> torch.onnx.ONNXProgram:
    from .operators import translations

    try:
        made = torch.onnx.export(
            _program(function, with_grad=name == "grad"), (), dynamo=True, optimize=True, verbose=False,
            input_names=list(function.inputs), output_names=list(function.outputs), external_data=False,
            custom_translation_table=translations(),
        )  # fmt: skip
    except Exception as error:  # of many kinds, all of which say that there is no such graph
        raise ValueError(
            f"what: {name} of {type(function.prior).__name__} cannot be written as a graph ({type(error).__name__}); "
            "all shipped priors have log_prob, grad and sample."
        ) from error
    assert made is not None
    return made


def _program(function: Function, *, with_grad: bool) -> torch.export.ExportedProgram:
    """The graph of a function, for any batch size."""
    arguments = function.example()
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in arguments)
    with torch.set_grad_enabled(with_grad):  # without, graphs have nothing that serves derivatives alone
        program = torch.export.export(function.module, arguments, dynamic_shapes=shapes, strict=False)
    if not with_grad:
        return program
    from torch._decomp import decomposition_table
    from torch.fx.experimental.proxy_tensor import make_fx

    density = program.module()

    def value_and_grad(pose: Tensor) -> tuple[Tensor, Tensor]:
        leaf = pose.detach().requires_grad_()
        value = density(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    derivatives: Any = {op: rule for op, rule in decomposition_table.items() if "backward" in str(op)}
    derivatives[torch.ops.aten.diagonal_backward.default] = _diagonal_backward
    traced = make_fx(
        value_and_grad, decomposition_table=derivatives, tracing_mode="symbolic", _allow_non_fake_inputs=True
    )(*arguments)
    return torch.export.export(traced, arguments, dynamic_shapes=shapes, strict=False)


def _diagonal_backward(grad: Tensor, sizes: list[int], offset: int, dim1: int, dim2: int) -> Tensor:
    """Of square matrices, without the assignment in place of PyTorch's own rule."""
    assert sizes[dim1] == sizes[dim2]
    return torch.diag_embed(grad, offset, dim1, dim2)


def _notes(prior: PosePrior, what: str, hidden: tuple[int, ...]) -> dict[str, str]:
    """What a file says of itself."""
    notes = {
        "poseprior": f"{what} of a {type(prior).__name__}",
        "joints": ", ".join(skeleton.JOINT_NAMES[j] for j in prior.joints),
        "units": "rotvecs in radians, SMPL-X order; nats against Haar",
        "log_prob_kind": prior.log_prob_kind,
        "licence": str(prior.metadata.get("licence", "unspecified")),
    }
    if what == "complete":
        notes["hidden"] = ", ".join(skeleton.JOINT_NAMES[j] for j in hidden)
    return notes


def _compare(path: Path, function: Function, what: str) -> None:
    """Refuse a file that onnxruntime does not run, or whose values are not those of the prior."""
    import onnxruntime

    arguments = function.example(_CHECKED_POSES, seed=1)
    expected = _evaluate(function.module, arguments, with_grad=what == "grad")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    named = {name: value.numpy() for name, value in zip(function.inputs, arguments, strict=True)}
    for name, ours, theirs in zip(function.outputs, session.run(None, named), expected, strict=True):
        rows = theirs.reshape(len(theirs), -1)
        scale = _GRADIENT_SCALE if name == "grad" else _SCALE
        size = rows.abs().amax(1, keepdim=True).div(scale).clamp_min(1.0)
        off = (torch.as_tensor(ours).reshape(rows.shape) - rows).abs() / size
        if not float(off.max()) <= _TOLERANCE:
            raise ValueError(f"what: {what} in ONNX is {float(off.max()):.1e} off in {name}; nothing was written.")


def _evaluate(module: nn.Module, arguments: tuple[Tensor, ...], *, with_grad: bool) -> tuple[Any, ...]:
    if not with_grad:
        with torch.no_grad():
            return (module(*arguments),)
    leaf = arguments[0].clone().requires_grad_()
    value = module(leaf)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]
