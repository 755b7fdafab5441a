"""Wall time, as ratios measured side by side."""
