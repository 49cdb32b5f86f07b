"""`python -m igpt_tf COMMAND`: the command line."""

import sys

from igpt_tf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
