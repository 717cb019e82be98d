"""Make attacks by name: python -m tests.attacks HOST:PORT [NAME ...] [--seconds N]."""

from __future__ import annotations

import argparse
import sys

from tests.attacks import ATTACKS, Attacker


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.attacks")
    parser.add_argument("target", help="HOST:PORT, on this machine")
    parser.add_argument("names", nargs="*", metavar="NAME", help="none: list the attacks")
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long each is made")
    parser.add_argument("--frames", type=int, default=sys.maxsize, help="how many at most")
    parser.add_argument("--once", action="store_true", help="don't begin again when it has ended")
    options = parser.parse_args()
    if not options.names:
        for each in ATTACKS.values():
            print(f"{each.name}: {each.tries}")
    for name in options.names:
        port = int(options.target.rsplit(":", 1)[1])
        with Attacker(port, max_frames=options.frames, seconds=options.seconds) as attacker:
            attacker.run(ATTACKS[name], again=not options.once)
            print(f"{name}: {attacker.outcome}")


if __name__ == "__main__":
    main()
