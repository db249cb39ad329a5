"""What a chip runs in place of plain layers: Pallas kernels for TPUs, their gradients written by hand."""
