"""Run `snn-exp study` from a checkout."""

import sys

from snn_exp.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["study", *sys.argv[1:]]))
