"""How a `PoseDataset` keeps its rows: storage, columns, names, thinning."""
