"""Text of every encoding that is known comes back as Python's codecs have it, whole or damaged, or it is told."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.learn.data import decoding
from soban.learn.data.reading import Read, Reading, documents
from soban.learn.data.sources import find
from soban.text import encodings

# Own sentences, a language each; words are drawn from them.
KOREAN = (
    "옛날 옛적에 토끼가 깊은 숲에서 친구들과 함께 살았어요. 어느 날 호랑이가 나타나서 배가 고프다고 말했습니다."
    " 정부는 오늘 새로운 정책을 발표하였다. 비가 그치고 하늘이 맑게 개었네요! 책을 읽다가 잠이 들었다, 그런데 "
    "뜻밖의 소식이 왔어. AI와 사람이 꼭 함께 걷는 길"
)
JAPANESE = (
    "昔々 あるところに おじいさんと おばあさんが 住んでいました。 おじいさんは 山へ しば刈りに、 おばあさんは "
    "川へ 洗濯に 行きました。 東京の 天気は 今日も 晴れです。 新しい コンピュータを 使って 仕事を 始める。"
)
CHINESE = (
    "从前 有一个 小女孩， 她住在 森林里。 有一天， 她看见了 一只 兔子。 今天的 天气 非常好， 我们 一起 去公园 "
    "玩吧。 政府 发布了 新的 经济 政策。"
)
TRADITIONAL = (
    "從前 有一個 小女孩， 她住在 森林裡。 有一天， 她看見了 一隻 兔子。 今天的 天氣 非常好， 我們 一起 去公園 "
    "玩吧。 政府 發布了 新的 經濟 政策。"
)
LATIN = (
    "Le garçon était très fâché. Où est l’été ? Ça coûte 3 € – déjà payé. Für Mädchen schön; el niño pequeño ma"
    "ñana. “Hello,” she said, voilà."
)
RUSSIAN = (
    "Жили-были старик со старухой у самого синего моря. Однажды они пошли в лес, но дождь не кончался. Он сказа"
    "л: хорошо!"
)
WORDS = {
    "utf-8": KOREAN, "utf-8-sig": KOREAN, "cp949": KOREAN, "euc_kr": KOREAN, "johab": KOREAN, "iso2022_kr": KOREAN,
    "cp932": JAPANESE, "shift_jis": JAPANESE, "euc_jp": JAPANESE, "iso2022_jp": JAPANESE, "gb18030": CHINESE,
    "gbk": CHINESE, "gb2312": CHINESE, "cp950": TRADITIONAL, "big5": TRADITIONAL, "cp1252": LATIN, "latin-1": LATIN,
    "cp1251": RUSSIAN, "utf-16": KOREAN, "utf-16-le": JAPANESE, "utf-16-be": KOREAN, "utf-32": LATIN,
    "utf-32-le": KOREAN, "utf-32-be": CHINESE,
}  # fmt: skip
# Encodings that are read as a larger one, in which they are contained
LARGER = {
    "shift_jis": "cp932", "gbk": "gb18030", "gb2312": "gb18030", "big5": "cp950", "latin-1": "cp1252",
    "iso2022_jp": "iso2022_jp_1",
}  # fmt: skip
SEVEN_BITS = ("iso2022_kr", "iso2022_jp")  # in which a lost byte is no damage that can be seen


def read(path: Path, **how: Any) -> tuple[list[str], Read]:
    reads: list[Read] = []
    return list(documents(find([path]).sources, Reading(parting="line", **how), reads)), reads[0]


def sentences(encoding: str, count: int, chance: random.Random) -> list[str]:
    """Lines of words that the encoding has."""
    words = WORDS[encoding].encode(encoding, "ignore").decode(encoding).split()
    return [" ".join(chance.choices(words, k=chance.randint(6, 14))) for _ in range(count)]


def damaged(data: bytes, encoding: str, chance: random.Random) -> bytes:
    """One byte in a thousand is another, or missing, or one more; of wide encodings none is missing."""
    content = bytearray(data)
    for _ in range(max(1, len(data) // 1000)):
        at = chance.randrange(8, len(content))  # behind a mark
        how = 0 if "16" in encoding or "32" in encoding else chance.randrange(3)
        content[at : at + (how != 2)] = [chance.randrange(256)] if how != 1 else []
    return bytes(content)


@pytest.mark.parametrize("encoding", WORDS)
def test_text_in_any_encoding_comes_back_as_pythons_codec_has_it(tmp_path: Path, encoding: str) -> None:
    for seed in range(12):
        chance = random.Random(seed)
        lines = sentences(encoding, chance.choice([3, 30, 300]), chance)
        (tmp_path / "a.txt").write_bytes("\n".join(lines).encode(encoding))
        texts, reads = read(tmp_path / "a.txt")
        assert texts == lines, (seed, reads.encoding)
        assert reads.encoding.replace("_", "-") == LARGER.get(encoding, encoding).replace("_", "-") or (
            (encoding, reads.encoding) == ("euc_kr", "cp949")
        )


@pytest.mark.parametrize("encoding", [name for name in WORDS if name not in SEVEN_BITS])
def test_of_a_damaged_text_only_the_damaged_lines_are_lost(
    tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    judge = LARGER.get(encoding, encoding).replace("euc_kr", "cp949")
    for seed in range(10):
        caplog.clear()
        chance = random.Random(seed)
        lines = sentences(encoding, 200, chance)
        data = damaged("\n".join(lines).encode(encoding), encoding, chance)
        path = tmp_path / f"{encoding}-{seed}.txt"  # a note is said once of each
        path.write_bytes(data)
        texts, reads = read(path)
        right = data.decode(judge, "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert texts == [line.strip() for line in right if line.strip()], (seed, reads.encoding)
        lost = sum(line not in set(texts) for line in lines)
        assert lost <= 3 * max(1, len(data) // 1000)
        assert reads.damaged >= "".join(right).count("\ufffd")
        assert ("characters are damaged" in caplog.text) == (reads.damaged > 0)


def test_a_byte_that_is_missing_in_utf_16_garbles_nothing_in_silence(tmp_path: Path) -> None:
    for seed in range(20):
        chance = random.Random(seed)
        encoding = chance.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
        data = "\n".join(sentences("cp949", 400, chance)).encode(encoding)
        at = chance.randrange(8, len(data) - 2 * decoding.BLOCK)
        (tmp_path / "a.txt").write_bytes(data[:at] + data[at + 1 :])
        with pytest.raises(UserError, match=r"is missing, or one too many|not text"):
            read(tmp_path / "a.txt")


def test_one_nul_and_other_control_characters_lose_nothing(tmp_path: Path) -> None:
    for encoding in ("utf-8", "cp949", "cp932", "cp1252"):
        chance = random.Random(encoding)
        lines = sentences(encoding, 60, chance)
        data = bytearray("\n".join(lines).encode(encoding))
        place = data.index(b" ", len(data) // 2)
        data[place:place] = b"\0"
        (tmp_path / "a.txt").write_bytes(data)
        texts, reads = read(tmp_path / "a.txt")
        assert [text.replace("\0", "") for text in texts] == lines and reads.encoding == encoding


def test_the_eight_bytes_of_a_syllable_that_euc_kr_lacks_are_that_syllable(tmp_path: Path) -> None:
    lines = ["똠방각하가 왔다.", "펲시콜라 한 병", "뷁이라고 했다"]
    (tmp_path / "a.txt").write_bytes("\n".join(lines).encode("euc_kr"))
    assert read(tmp_path / "a.txt")[0] == lines
    (tmp_path / "a.txt").write_bytes("\n".join(lines).encode("cp949"))
    assert read(tmp_path / "a.txt")[0] == lines


def test_the_word_of_the_user_goes_before_the_guess_and_a_mark_before_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("投".encode("big5"))
    assert read(tmp_path / "a.txt", encoding="cp950")[0] == ["投"]
    (tmp_path / "a.txt").write_bytes("\ufeff가나다".encode("utf-16-le"))
    assert read(tmp_path / "a.txt", encoding="cp950")[0] == ["가나다"]
    (tmp_path / "a.txt").write_bytes("가나다라마바사".encode())
    with pytest.raises(UserError, match=r"a\.txt: not text in ascii; .*--encoding"):
        read(tmp_path / "a.txt", encoding="ascii")
    assert decoding.python_name("EUC-KR") == "euc_kr"
    for name in ("klingon", "base64", "rot13", "undefined", "idna", "a\0b", ""):
        with pytest.raises(UserError, match=r"--encoding .* is not known"):
            decoding.python_name(name)


def test_where_the_encoding_is_not_certain_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_bytes("끝".encode("cp949"))
    assert read(tmp_path / "a.txt")[0] == ["끝"]
    assert "taken for cp949, which is not certain" in caplog.text and "--encoding" in caplog.text
    caplog.clear()
    (tmp_path / "a.txt").write_bytes(KOREAN.encode("cp949"))
    read(tmp_path / "a.txt")
    assert not caplog.records


def test_no_korean_sentence_in_cp949_is_taken_for_its_neighbours(tmp_path: Path) -> None:
    for seed in range(300):
        (line,) = sentences("cp949", 1, random.Random(seed))
        assert encodings.guess([line.encode("cp949")]).names[0] == "cp949"
        assert encodings.decode(line.encode("cp949"), Path("stdin")) == line
    for word in KOREAN.split():
        assert encodings.decode(word.encode("cp949"), Path("stdin")) == word


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    for seed in range(60):
        chance = random.Random(seed)
        kind = seed % 3
        size = chance.choice([40, 2000, 200_000])
        data = chance.randbytes(size) if kind else bytes(range(256)) * (size // 256 + 1)
        if kind == 2:
            data = b"\x89PNG\r\n\x1a\n" + data
        (tmp_path / "a.txt").write_bytes(data)
        with pytest.raises(UserError, match="not text"):
            read(tmp_path / "a.txt")


def test_the_characters_of_a_language_are_counted_once_and_not_for_each_of_them() -> None:
    from soban.text import letters

    letters._table.cache_clear()
    begun = time.process_time()
    letters._table(("ko", "ja", "zh", "zh-tw", "ru"))
    assert time.process_time() - begun < 1  # 20,000 characters; by the square it was ten seconds
