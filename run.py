"""Evaluate, sample, complete and train Image GPT: `python run.py COMMAND --help`."""

import sys

from igpt_tf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
