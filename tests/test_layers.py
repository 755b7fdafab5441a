"""The layers of the package: every import, lazy and TYPE_CHECKING ones too, is of the own or a lower layer, in no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "poseprior"

#: Layers, lowest first: a module imports from its own layer and from those that stand earlier. A name stands for a module,
#: or for a package with all that is in it; names in `ALONE` stand for a package's `__init__` only.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("_version", "_text"),
    ("_checks", "_compiled", "_inference_mode", "_tracing", "_value_and_gradient", "_workers", "devices"),
    ("skeleton", "rotations", "kinematics", "params", "_hands", "keypoint_layouts"),
    ("io.atomic",),
    ("drawing",),
    ("_shown",),
    ("optim",),
    ("io._files", "io._dataset"),
    ("io._poses", "io._keypoints"),
    ("io",),
    # It makes shards, which `io` reads, of trees of files.
    ("importer",),
    ("trainable",),
    # Below `prior`: defining a class registers it, so `prior` knows the registry. The file format is its own module.
    ("_checkpoint_format",),
    ("checkpoint",),
    ("_pose_checks", "_chunks"),
    ("_weight_checks",),
    ("prior",),
    # Charts keep what they compute from their buffers in the cache that families share.
    ("models.shared",),
    ("models.charts",),
    ("models.fused",),
    ("models.gaussian",),
    ("models.joint_flow",),
    ("models.global_flow",),
    ("models.order_agnostic",),
    ("models.vae",),
    ("models.product",),
    ("models",),
    ("rigs",),
    ("training",),
    ("evaluation",),
    ("latent",),
    ("tasks",),
    ("fitting.body",),
    # What an energy is made of. The solver minimises it, its result holds the solver's state, `fit_body` calls it.
    (
        "fitting.config",
        "fitting.camera",
        "fitting.camera_checks",
        "fitting.handedness",
        "fitting.layout_points",
        "fitting.targets",
        "fitting.coordinates",
        "fitting.energy",
        "fitting.anchor",
        "fitting.term",
    ),
    ("fitting.solver", "fitting.result"),
    ("fitting",),
    ("pretrained",),
    ("export",),
    ("recipes",),
    ("scale",),
    ("compat",),
    ("viz",),
    ("cli", "__main__"),
    ("",),
)
ALONE = ("", "models")
#: What points up: `PosePrior.fit` and `PosePrior.adapt` are both training, and call this package.
UPWARDS = {("poseprior.prior", "poseprior.training")}
MOST_LINES = 300


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(module: str) -> Iterator[str]:
    """Modules of the package that a module imports, wherever in the file."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            targets = [(source, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            text = ast.unparse(node)
            assert ("poseprior" not in text and "__name__" not in text) or module == "poseprior", (
                f"{module}: {text} hides an import from this test; write an import statement."
            )
            continue
        else:
            continue
        for source, name in targets:
            if source.split(".")[0] == "poseprior":
                whole = f"{source}.{name}"
                yield whole if name is not None and whole in MODULES else source


EDGES = {module: set(_imports(module)) - {module} for module in MODULES}


def _layer(module: str) -> int:
    """Position in `LAYERS` of the longest name that a module is, or is in."""
    inside = module.removeprefix("poseprior").removeprefix(".")
    fits = [
        (len(name), number)
        for number, names in enumerate(LAYERS)
        for name in names
        if inside == name or (name not in ALONE and inside.startswith(f"{name}."))
    ]
    assert fits, f"{module} has no layer: say in tests/test_layers.py (LAYERS) which modules it may import."
    return max(fits)[1]


def test_every_module_has_a_layer_and_every_import_a_module() -> None:
    for module, targets in EDGES.items():
        _layer(module)
        for target in targets:
            assert target in MODULES, f"{module} imports {target}, which is not there"


def test_imports_point_down() -> None:
    upwards = {
        (module, target) for module, targets in EDGES.items() for target in targets if _layer(target) > _layer(module)
    }
    wrong = "\n".join(f"{a} imports {b}" for a, b in sorted(upwards - UPWARDS))
    assert not wrong, f"imports that point up:\n{wrong}"
    assert upwards == UPWARDS, "an exception that nothing needs any more: take it out of UPWARDS."


def test_no_two_modules_import_each_other() -> None:
    graph = {module: targets - {b for a, b in UPWARDS if a == module} for module, targets in EDGES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' <- '.join(error.args[1])}") from None


def test_files_are_short() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert not long, f"files above {MOST_LINES} lines: {long}"
    assert lines["poseprior.prior"] < MOST_LINES


def test_models_show_a_package_a_family() -> None:
    shown = sorted(path.name for path in (PACKAGE / "models").iterdir() if path.name != "__pycache__")
    assert len(shown) <= 10, f"poseprior/models holds {shown}"


def test_this_test_sees_imports_of_every_kind() -> None:
    assert "poseprior.training" in EDGES["poseprior.prior"]  # lazy, and under TYPE_CHECKING
    assert "poseprior.skeleton" in EDGES["poseprior.prior"]  # from . import name
    assert "poseprior.io.dataset" in EDGES["poseprior.training.fit"]  # from ..package.module import name
    assert _layer("poseprior.models") > _layer("poseprior.models.charts.tangent") > _layer("poseprior.prior")
