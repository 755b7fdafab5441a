"""What the arrays of a pose file mean: names, orders, forms, parts, masks."""
