"""How `fit_body` searches: starts, stages, inverse kinematics, Gauss-Newton curvature, and the energy it minimises."""
