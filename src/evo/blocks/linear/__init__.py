"""One linear map as a block."""
