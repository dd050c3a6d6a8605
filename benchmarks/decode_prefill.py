"""Decoding and prefill of a full-size model: soban, llama.cpp and other engines in turn.

    python scripts/make_random_gemma2.py out/gemma-2-2b-random
    python benchmarks/decode_prefill.py out/gemma-2-2b-random --peers llama

Environment: SOBAN_BENCH_IK names ik_llama.cpp's llama-bench; SOBAN_BENCH_LLAMA a folder with llama.cpp's libraries in
place of those of llama-cpp-python; SOBAN_BENCH_LLAMA_AVX2, _AVXVNNI, _AVX512VNNI those built for these instruction
sets, which --isas compares with ours; SOBAN_BENCH_OPENVINO a Python that has optimum-intel and openvino-genai.
--peers: llama ik ctranslate2 openvino torch-float32 torch-bfloat16.
"""

import argparse

import common

GGUF = {"q4": "Q4_0", "q8": "Q8_0"}


def contestants(options: argparse.Namespace) -> list[common.Contestant | None]:
    made: list[common.Contestant | None] = []
    threads, positions = options.threads, options.prompt_tokens + 64
    for kind in options.kinds:
        gguf = (
            common.random_gguf(options.model, GGUF[kind], options.files)
            if {"llama", "ik"} & set(options.peers)
            else None
        )
        for isa in options.isas:
            chosen = None if isa == "best" else isa
            if not options.without_us:
                made.append(common.soban(options.model, kind, threads, positions, chosen))
            if gguf and "llama" in options.peers:
                made.append(common.llama(gguf, GGUF[kind], threads, positions, chosen, flash=options.flash))
        if gguf and "ik" in options.peers:
            made.append(common.ik(gguf, GGUF[kind], threads))
        if "openvino" in options.peers:
            made.append(common.openvino(options.model, {"q4": "int4", "q8": "int8"}[kind], threads, options.files))
    if "ctranslate2" in options.peers:
        made.append(common.ctranslate2(options.model, threads, options.files))
    made += [
        common.transformers(options.model, peer[6:], threads) for peer in options.peers if peer.startswith("torch-")
    ]
    return made


def main() -> None:
    parser = common.parser(__doc__)
    parser.set_defaults(peers=["llama", "ik"])
    parser.add_argument("--kinds", nargs="+", default=["q4", "q8"], choices=sorted(GGUF))
    parser.add_argument("--isas", nargs="+", default=["best"], help="best, avx2, avxvnni ...")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--flash", type=int, default=-1, help="llama.cpp's flash attention: 0, 1, or -1 as it likes")
    parser.add_argument("--without-us", action="store_true", help="the peers alone")
    options = parser.parse_args()
    tasks = [common.prefill(options.prompt_tokens), common.decode(32, options.new_tokens)]
    common.run("decode_prefill", contestants(options), tasks, options.rounds)


if __name__ == "__main__":
    main()
