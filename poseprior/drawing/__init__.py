"""Poses drawn with matplotlib, from geometry alone, so that every module above can show a picture.

`poseprior.viz` is the public part.
"""
