"""Download OpenAI's checkpoints, palette and data sets: `python download.py --help`."""

import sys

from igpt_tf.cli.download import main

if __name__ == "__main__":
    sys.exit(main())
