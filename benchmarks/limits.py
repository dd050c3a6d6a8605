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
        if not number:
            print(f"{'GB/s':>8}{'streams':>9}{'ahead':>7}" + "".join(f"{name:>12}" for name in limits.products))
        peaks = {name: round(rate / 1e9, 1) for name, rate in limits.products.items()}
        bandwidth = round(limits.bandwidth / 1e9, 2)
        print(
            f"{bandwidth:8.2f}{limits.streams:9}{limits.ahead:7}" + "".join(f"{rate:12.0f}" for rate in peaks.values())
        )
        record = {
            "when": time.strftime("%Y-%m-%d %H:%M"), "machine": common.cpu(), "threads": limits.threads,
            "bandwidth_gb": bandwidth, "streams": limits.streams, "cache": limits.cache, "ahead": limits.ahead,
            "int8_g": peaks, "disturbed": round(disturbed, 3),
        }  # fmt: skip
        common.append("limits", record)


if __name__ == "__main__":
    main()
