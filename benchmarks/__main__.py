"""``python -m benchmarks [name …]``: run all benchmarks, or those named, one after the other."""

import pkgutil
import subprocess
import sys

import benchmarks

_SUPPORT = {"__main__", "litserve_peer", "pipeline", "servers"}


def names() -> list[str]:
    """Return the benchmarks that can be run."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return [name for name in found if name not in _SUPPORT and not name.startswith("_")]


def main() -> int:
    """Run them, each in a process of its own so that none warms up another."""
    chosen = sys.argv[1:] or names()
    if unknown := set(chosen) - set(names()):
        print(f"no benchmark {sorted(unknown)}; there are {names()}", file=sys.stderr)
        return 2
    for name in chosen:
        print(f"== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
