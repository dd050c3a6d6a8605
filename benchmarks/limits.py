"""What this machine can do at most: bandwidth and int8 peaks, several times over.

python benchmarks/limits.py
"""

import time

import common

from soban.measure.limits import measure_limits


def main() -> None:
    parser = common.parser(__doc__, model=False)
    options = parser.parse_args()
    for number in range(options.rounds):
        (limits, disturbed) = common.undisturbed(measure_limits)
        peaks = {name: round(rate / 1e9, 1) for name, rate in limits.products.items()}
        bandwidth, usual = (round(rate / 1e9, 2) for rate in (limits.bandwidth, limits.usual))
        cells = [bandwidth, usual, limits.streams, limits.ahead, *map(round, peaks.values())]
        if not number:
            print("".join(f"{head:>12}" for head in ("GB/s", "usually", "streams", "ahead", *peaks)))
        print("".join(f"{cell:>12}" for cell in cells))
        record = {
            "when": time.strftime("%Y-%m-%d %H:%M"), "machine": common.cpu(), "threads": limits.threads,
            "bandwidth_gb": bandwidth, "usual_gb": usual, "streams": limits.streams,
            "cache": limits.cache, "ahead": limits.ahead, "int8_g": peaks, "disturbed": round(disturbed, 3),
        }  # fmt: skip
        common.append("limits", record)


if __name__ == "__main__":
    main()
