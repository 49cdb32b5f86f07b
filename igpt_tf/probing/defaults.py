"""What the probes take unless told otherwise.

Apart from them, so that the command line's help need not load their libraries.
"""

# What states may go through before the mean over positions is taken, see `extract_features`.
NORMS = ("block", "ln_2", "ln_f", "none")
# Most steps of L-BFGS.
MAX_ITER = 5000
# Passes of SGD.
EPOCHS = 30
# Random subsets of few labels.
SUBSETS = 5
