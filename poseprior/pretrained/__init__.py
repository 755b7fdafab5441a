"""Trained priors as package data: `<name>.safetensors`, which `poseprior.load("<name>")` finds; notices beside them."""
