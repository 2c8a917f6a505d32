"""Upper confidence bounds of a linear model over the choices of documents."""
