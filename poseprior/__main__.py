"""`python -m poseprior`, also under torchrun: `torchrun --nproc-per-node 2 -m poseprior train ...`."""

import sys

from .cli import main

sys.exit(main())
