"""Default settings of probes, in a module that loads quickly, for the command line's help."""

# Norms that `extract_features` may apply to a layer's states.
NORMS = ("block", "ln_2", "ln_f", "none")
# Largest number of L-BFGS iterations.
MAX_ITER = 5000
# Epochs of SGD.
EPOCHS = 30
# Random subsets per number of labels per class.
SUBSETS = 5
# What a probe writes.
REPORT_FILES = ("probe.json", "probe.csv", "probe.png", "confusion.csv", "confusion.png")
