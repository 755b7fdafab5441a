"""Poses drawn with matplotlib, from geometry alone: any object can show itself with a picture. `poseprior.viz` builds on it."""
