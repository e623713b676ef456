"""One table a file: our number, beside it what a peer does and what the hardware allows. Run from a checkout."""
