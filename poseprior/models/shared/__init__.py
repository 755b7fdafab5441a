"""Parts that several families of models share."""
