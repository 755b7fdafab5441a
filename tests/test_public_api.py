"""The public surface: a snapshot, so that a name is added or dropped on purpose."""

from __future__ import annotations

import subprocess
import sys

import poseprior


def test_public_names() -> None:
    assert sorted(poseprior.__all__) == [
        "BodyVAE",
        "FitConfig",
        "FitResult",
        "GaussianMixturePrior",
        "GaussianPrior",
        "GlobalFlow",
        "HandVAE",
        "JointFlow",
        "LatentPosePrior",
        "OrderAgnosticPrior",
        "PoseDataset",
        "PosePrior",
        "ProductPrior",
        "RigNoise",
        "VAEPrior",
        "__version__",
        "list_pretrained",
        "load",
        "read_poses",
    ]
    assert all(hasattr(poseprior, name) for name in poseprior.__all__)


def test_submodules_load_on_first_use() -> None:
    script = """
import sys
import poseprior
assert "poseprior.tasks" not in sys.modules
poseprior.GaussianPrior("body")
assert "poseprior.training" not in sys.modules  # `fit` and `adapt` import it
assert {"scale", "tasks"} <= set(dir(poseprior)) and "import_module" not in dir(poseprior)
assert callable(poseprior.tasks.score) and callable(poseprior.latent.project)
try:
    poseprior.nothing
except AttributeError as error:
    assert "no attribute 'nothing'" in str(error)
else:
    raise AssertionError("a name that is not there was found")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_import_needs_no_extra_and_touches_nothing() -> None:
    """smplx is non-commercial and the extras are optional: neither import nor a density may need them."""
    script = """
import sys
blocked = ("smplx", "matplotlib", "trimesh", "tensorboard", "scipy", "zuko")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError("blocked " + name)
sys.meta_path.insert(0, Refuse())
import torch
state = torch.get_rng_state()
import poseprior
assert torch.equal(torch.get_rng_state(), state)
assert torch.distributions.Distribution._validate_args == __debug__
prior = poseprior.GaussianPrior("body")
prior.log_prob(prior.sample(2))
import poseprior.cli
assert not set(blocked) & {m.split(".")[0] for m in sys.modules}
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def _modules_after(statement: str) -> set[str]:
    """Names of all modules that a fresh interpreter has imported after a statement."""
    script = f"import sys\n{statement}\nprint('MODULES', *sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(found.stdout.rpartition("MODULES")[2].split())


def test_import_is_quick() -> None:
    """It imports no more than torch itself does: nothing of what makes an import slow."""
    assert len(_modules_after("import poseprior")) < 100
    torch = _modules_after("import torch")
    both = _modules_after("import torch, poseprior")
    assert {name.split(".")[0] for name in both - torch} <= {"poseprior", "importlib", "typing"}


def test_a_density_needs_no_compiler() -> None:
    """torch._dynamo takes longer to import than torch: it stays away until something is compiled."""
    loaded = _modules_after(
        "import torch, poseprior; p = poseprior.load('body-mixture'); p.log_prob(p.sample(2).requires_grad_()).sum().backward()"
    )
    assert "torch._dynamo" not in loaded and "roma" not in loaded


def test_help_and_list_need_no_torch() -> None:
    """`train --help` alone reads the defaults of models, which import torch."""
    from poseprior.cli import COMMANDS

    commands = [command for command in COMMANDS if command != "train"]
    assert len(commands) > 8
    calls = [["--help"], ["--version"], ["list"], *([command, "--help"] for command in commands)]
    statement = f"""
from poseprior.cli import main
for call in {calls!r}:
    try:
        main(call)
    except SystemExit as end:
        assert not end.code
"""
    loaded = _modules_after(statement)
    assert not {"torch", "roma", "numpy", "smplx"} & loaded
