"""What priors and results show of themselves: one line in a terminal; in a notebook, that line and a small picture."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .skeleton import JOINT_SETS

#: Poses in the picture of a prior, and its resolution.
_PICTURES, _DPI = 6, 60


def joints_text(joints: Sequence[int]) -> str:
    """`21 joints (body)`, or the number alone where the joints are no set with a name."""
    name = next((name for name, members in JOINT_SETS.items() if members == tuple(joints)), None)
    count = f"{len(joints)} joint{'s' if len(joints) != 1 else ''}"
    return count if name is None else f"{count} ({name})"


def training_text(metadata: Mapping[str, Any]) -> str:
    """What a prior's metadata says about its training: how many poses, under which noise."""
    training = training_facts(metadata)
    poses, jitter = training.get("num_poses"), training.get("jitter")
    if not isinstance(poses, int):
        return "fitted"
    noise = [f"jitter {jitter:g} rad"] if isinstance(jitter, int | float) else []
    noise += ["rig noise"] if training.get("rig_noise") else []
    return f"trained on {poses:,} poses{' under ' if noise else ''}{' and '.join(noise)}"


def training_facts(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `fit` wrote into a prior's metadata; empty where there is nothing, or a note of the user's own."""
    training = metadata.get("training")
    return training if isinstance(training, Mapping) else {}


def prior_html(prior: Any) -> str:
    """A prior as HTML: its line, and draws of a fitted one that takes no context."""
    if not (prior.fitted and hasattr(prior, "sample")) or prior.context_dim:
        return html_page(repr(prior), None, None)
    generator = torch.Generator(prior.device).manual_seed(0)
    return html_page(repr(prior), prior.sample(_PICTURES, generator=generator), prior.joints)


def evenly_spaced(count: int) -> list[int]:
    """The numbers of the few rows of `count` that a picture shows, from the first to the last."""
    shown = min(count, _PICTURES)
    return [k * (count - 1) // max(shown - 1, 1) for k in range(shown)]


def html_page(text: str, poses: Tensor | None, joints: Sequence[int] | None = None) -> str:
    """A text as HTML with a small picture of poses (N, 55, 3) under it; the text alone where matplotlib is missing."""
    page = f"<code>{html.escape(text)}</code>"
    if poses is None:
        return page
    from .drawing.poses import plot_poses

    try:
        figure = plot_poses(poses[:_PICTURES], joints=joints, columns=_PICTURES, legend=False)
    except ModuleNotFoundError:
        return page
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    picture = base64.b64encode(buffer.getvalue()).decode()
    return f'{page}<br><img alt="poses" src="data:image/png;base64,{picture}">'
