"""Fuzzing: every format that soban reads, changed; nothing but a UserError or a right load may come of it.

    python dev.py fuzz --minutes 10 --formats safetensors,config.json --seed 1

A case is (format, seed, number) and nothing else, so that whatever is found can be made again. Cases run in worker
processes, many in each; a crash, a hang or an allocation beyond the limits ends a worker and no more.
"""
