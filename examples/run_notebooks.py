"""Execute the notebooks and store their outputs and pictures in them.

    python examples/run_notebooks.py                          # all of examples/notebooks
    python examples/run_notebooks.py --out /tmp/executed      # somewhere else

Needs `pip install ".[fitting,viz,test]"`; about a minute a notebook.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent / "notebooks"


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs, run in an empty folder."""
    document = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(document, timeout=600, resources=resources, record_timing=False).execute()
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(FOLDER.glob("*.ipynb")):
        document = execute(path)
        # What differs from machine to machine and says nothing.
        document.metadata = {"kernelspec": document.metadata["kernelspec"], "language_info": {"name": "python"}}
        nbformat.write(document, args.out / path.name)
        print(f"notebook: {args.out / path.name}")


if __name__ == "__main__":
    main()
