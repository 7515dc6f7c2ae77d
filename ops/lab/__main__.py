"""The privileged entry that `ops.lab.root.as_root` runs under sudo: CHECKOUT CACHE VERB ARGUMENTS..."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.errors import Failure, UserError
from ops.lab.root import VERBS

if __name__ == "__main__":
    checkout, cache, verb, *arguments = sys.argv[1:]
    try:
        VERBS[verb](Path(checkout), Path(cache), *arguments)
    except (UserError, Failure) as error:
        print(f"griddle: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
