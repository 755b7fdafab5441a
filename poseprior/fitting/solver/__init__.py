"""How `fit_body` searches: starts, stages, Gauss-Newton curvature, and the energy that is minimised."""
