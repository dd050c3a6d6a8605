"""The Korean half of the story generator: the people, places and things."""

import random

from soban.learn.tale import Word, final

NAMES = (
    "민수 지우 수아 준호 서연 은지 도윤 보라 유나 민준 하린 지훈 다은 소라 시우 예린 건우 나리 태민 윤서 민지 영희 철수 수진 "
    "현우 지민 은우 하준 서준 미나 유진 소영 동현 재민 승우 채원 지안 주원 예준 다인 하나 수빈 민호 정우 가은 나은 선우 슬기 하늘 바다"
).split()
ANIMALS = "토끼 여우 곰 고양이 강아지 생쥐 오리 거북이 다람쥐 고슴도치 개구리 참새 돼지 염소 원숭이 코끼리 사슴 너구리 병아리 송아지".split()
ANIMAL_NAMES = "코코 뭉치 초롱 방울 두리 콩이 별이 솜이 토토 깜찍 반달 달래 보리 꼬미 몽실 또또".split()
TRAITS = ("착한", "작은", "귀여운", "용감한", "씩씩한", "수줍은", "똑똑한", "어린", "마음씨 고운", "호기심 많은")
FAMILY = "엄마 아빠 할머니 할아버지".split()
WISE = ("부엉이 할아버지", "거북이 할머니", "곰 아저씨", "염소 할아버지")

PLACES = (
    {"place": "공원", "spot1": "의자 밑", "spot2": "미끄럼틀 뒤", "spot3": "모래밭 속", "spot4": "분수 옆"},
    {"place": "숲", "spot1": "낙엽 밑", "spot2": "큰 나무 뒤", "spot3": "덤불 속", "spot4": "통나무 옆"},
    {"place": "꽃밭", "spot1": "장미 밑", "spot2": "울타리 뒤", "spot3": "풀 속", "spot4": "우물 옆"},
    {"place": "바닷가", "spot1": "조개 밑", "spot2": "바위 뒤", "spot3": "모래 속", "spot4": "배 옆"},
    {"place": "강가", "spot1": "다리 밑", "spot2": "큰 돌 뒤", "spot3": "갈대 속", "spot4": "물가 옆"},
    {"place": "언덕", "spot1": "소나무 밑", "spot2": "바위 뒤", "spot3": "꽃 속", "spot4": "문 옆"},
    {"place": "농장", "spot1": "수레 밑", "spot2": "헛간 뒤", "spot3": "짚더미 속", "spot4": "울타리 옆"},
    {"place": "들판", "spot1": "나뭇잎 밑", "spot2": "그루터기 뒤", "spot3": "토끼풀 속", "spot4": "시냇물 옆"},
)
WEATHER = ("맑은", "따뜻한", "바람 부는", "시원한", "화창한", "조용한", "흐린")
COLOURS = "빨간 파란 노란 초록 하얀 분홍 보라색 주황색".split()
TOYS = "공 연 모자 목도리 배 리본 종 단추 우산 풍선 북 컵 인형 자동차 책 열쇠 외투 신발 반지 상자".split()
FOODS = "사과 과자 배 케이크 당근 딸기 도토리 복숭아 떡 감".split()


def world(chance: random.Random) -> dict[str, str]:
    """Who, where and with what."""
    child = chance.random() < 0.5
    fields = person(chance, child, "", set())
    fields |= person(chance, child and chance.random() < 0.6, "f", {fields["name"], fields["kind"]})
    kinds = {fields["kind"], fields["fkind"]}
    fields["elder"] = chance.choice(FAMILY if child else [wise for wise in WISE if wise.split()[0] not in kinds])
    fields |= chance.choice(PLACES) | {"weather": chance.choice(WEATHER)}
    fields |= {"thing": f"{chance.choice(COLOURS)} {chance.choice(TOYS)}", "food": chance.choice(FOODS)}
    spots = chance.sample(("spot1", "spot2", "spot3", "spot4"), 3)
    fields |= {"here": fields[spots[0]], "there": fields[spots[1]], "found": fields[spots[2]]}
    return fields


def person(chance: random.Random, child: bool, prefix: str, taken: set[str]) -> dict[str, str]:
    """A child, a named animal or an animal called by its kind; the friend's fields carry the prefix f."""
    trait = chance.choice(TRAITS)
    kind = "아이" if child else chance.choice([a for a in ANIMALS if a not in taken])
    named = child or chance.random() < 0.5
    name = chance.choice([n for n in (NAMES if child else ANIMAL_NAMES) if n not in taken]) if named else kind
    # A given name that ends in a consonant takes 이 before its particles: 지훈이는
    familiar = Word(name + "이" if named and final(name) else name)
    intro = f"{Word(name):이라}는 {trait} {kind}" if named else f"{trait} {kind} 한 마리"
    first = familiar if child or not named else f"{kind} {familiar}"
    fields = {"name": name, "kind": kind, "intro": intro, "first": first, "call": f"{Word(name):아}"}
    fields = {prefix + key: value for key, value in fields.items()}
    return fields | {"friend" if prefix else "hero": familiar}


def finish(chance: random.Random, text: str) -> str:
    """The text with one level of speech throughout: every sentence of the teller is past tense, so one ending fits all."""
    return text.replace("~", chance.choice(("습니다", "어요")))
