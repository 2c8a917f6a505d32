"""One stream, which gates decide what a sublayer changes of."""
