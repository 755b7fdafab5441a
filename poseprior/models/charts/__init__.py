"""Charts: coordinates of rotations in R^3, each with its exact change of variables."""
