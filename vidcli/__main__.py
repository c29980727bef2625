"""`python -m vidcli` is `vid`; the launcher of several processes starts workers this way."""

import sys

from vidcli.app import main

if __name__ == "__main__":
    sys.exit(main())
