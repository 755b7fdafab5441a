"""The body that is fitted: its points without the mesh, its hand parameters, and the licence-free stand-in body."""
