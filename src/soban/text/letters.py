"""How common characters are in the texts of a language: what tells an encoding that fits from one that only decodes."""

import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

# The most common of each script, about seven tenths of a text; the others of its standard are rarer, all else rarest.
KOREAN = (
    "이다는을가에고의하지한은를로도사기자리대나어있그아인시일라제들것해수여정서전장보부만게면할주성구상적안오동"
    "신국공조위원세비화과연요관중문경소방스무통내미진간선물실마되때우말모으던았었였습니까야러려더거데된없같잘생"
    "각저너뭐왜않못많좋알람년월개계금당도록발분회후네겠예친죠음싶힘별"
)
CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行"
    "所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力"
    "它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产"
    "或新己制身果加西斯月话合回特代内信表化老给世位次"
)
TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行"
    "所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力"
    "它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產"
    "或新己制身果加西斯月話合回特代內信表化老給世位次"
)
KANJI = (
    "日一国人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水"
    "半男西電校語土木聞食車何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手力問代明動京目通言理体"
    "田主題意不作用度強公持野以思家世多正安院心界教文元重近考画海売知道集別物使品計死特私始朝運終台広住無真有口"
    "少町料工建空急止送切転研足究楽起着店病質待試族銀"
)
KANA = "".join(map(chr, (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), 0x30FC)))
SIGNS = "、。，．・：；？！（）「」『』【】〈〉《》“”‘’…—～　％＆＋－０１２３４５６７８９"
LATIN = "éèàùâêîôûçëïüöäßñáíóúãõåøæœÉÈÀÂÊÎÔÛÇÜÖÄÑÁÍÓÚÅØ¿¡’‘“”–—…«»°£€§´·²®©™•\xa0"
CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"
CAPITALS = CYRILLIC.upper() + "«»—–…№“”„"

DAMAGE = "\ufffd"
RAREST = 50_000  # characters that no group has
LIKELY_ASCII, CONTROL, DAMAGED = math.log(0.5 / 97), math.log(1e-7), math.log(1e-8)
PLAIN_CONTROLS = "\t\n\r\f\x1a"  # the last ends texts of DOS

# Neighbours that no word has: letters of two alphabets, and accented letters side by side
STRANGE: dict[tuple[str, ...], re.Pattern[str]] = {
    ("ru",): re.compile("[A-Za-z][\u0400-\u045f]|[\u0400-\u045f][A-Za-z]"),
    ("la",): re.compile("[\u00c0-\u00ff](?=[\u00c0-\u00ff])"),
}
NEIGHBOURS = math.log(0.01)


def _rows(codec: str, leads: Iterable[int]) -> str:
    """The characters whose first bytes are these, in a set of 94 columns."""
    pairs = (bytes([lead, trail]) for lead in leads for trail in range(0xA1, 0xFF))
    return "".join(pair.decode(codec, "ignore") for pair in pairs)


# By language: how often a character is none of ASCII, and the groups of those that are none, each with its share.
@functools.cache
def _groups(language: str) -> tuple[float, tuple[tuple[float, str], ...]]:
    if language == "ko":
        jamo = "".join(map(chr, range(0x3131, 0x3164)))
        return 0.5, (
            (0.7, KOREAN), (0.25, _rows("euc_kr", range(0xB0, 0xC9))), (0.03, SIGNS), (0.005, jamo),
            (0.005, _rows("euc_kr", range(0xCA, 0xFE))),
        )  # fmt: skip
    if language == "ja":
        return 0.5, (
            (0.55, KANA), (0.25, KANJI), (0.12, _rows("euc_jp", range(0xB0, 0xD0))), (0.07, SIGNS),
            (0.003, _rows("euc_jp", range(0xD0, 0xF5))),
        )  # fmt: skip
    if language == "zh":
        return 0.5, (
            (0.6, CHINESE), (0.3, _rows("gb2312", range(0xB0, 0xD8))), (0.08, SIGNS),
            (0.01, _rows("gb2312", range(0xD8, 0xF8))),
        )  # fmt: skip
    if language == "zh-tw":
        trails = (*range(0x40, 0x7F), *range(0xA1, 0xFF))
        pairs = (bytes([lead, trail]) for lead in range(0xA4, 0xC7) for trail in trails)
        common = "".join(pair.decode("cp950", "ignore") for pair in pairs)
        return 0.5, ((0.6, TRADITIONAL), (0.3, common), (0.08, SIGNS))
    if language == "ru":
        return 0.5, ((0.92, CYRILLIC), (0.06, CAPITALS))
    return 0.05, ((0.95, LATIN), (0.04, "".join(map(chr, range(0xA0, 0x180)))))


@functools.cache
def _table(languages: tuple[str, ...]) -> tuple[dict[str, float], float]:
    """The log probability of each character of these languages' texts, and of any other."""
    chances: defaultdict[str, float] = defaultdict(float)
    rest = 0.0
    for language in languages:
        dense, groups = _groups(language)
        for share, group in groups:
            characters = set(group)
            for character in characters:
                chances[character] += dense * share / len(characters) / len(languages)
        rest += dense * (1 - sum(share for share, _ in groups)) / RAREST / len(languages)
    return {character: math.log(chance) for character, chance in chances.items()}, math.log(rest)


def usual(languages: tuple[str, ...]) -> str:
    """The characters beyond ASCII that texts in these languages are made of."""
    return "".join(_table(languages)[0])


def likelihood(text: str, languages: tuple[str, ...]) -> tuple[float, float]:
    """The log probability of a text in one of these languages, and which share of what is not ASCII is usual there."""
    table, rest = _table(languages)
    strange = STRANGE.get(languages)
    total, others, common = NEIGHBOURS * len(strange.findall(text)) if strange else 0.0, 0, 0
    for character, count in Counter(text).items():
        if character == DAMAGE:
            chance = DAMAGED
        elif character.isascii():
            plain = character.isprintable() or character in PLAIN_CONTROLS
            total += count * (LIKELY_ASCII if plain else CONTROL)
            continue
        else:
            chance = table.get(character, rest)
        total += count * chance
        others += count
        common += count * (chance > rest)
    return total, common / others if others else 1.0
