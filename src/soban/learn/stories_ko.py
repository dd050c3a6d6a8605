"""The Korean half of the story generator: the people and places, and the plots with their wordings."""

import random

from soban.learn.tale import Plot, Word

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
    familiar = Word(name + "이" if named and particle_follows(name) else name)
    intro = f"{Word(name):이라}는 {trait} {kind}" if named else f"{trait} {kind} 한 마리"
    first = familiar if child or not named else f"{kind} {familiar}"
    fields = {"name": name, "kind": kind, "intro": intro, "first": first, "call": f"{Word(name):아}"}
    fields = {prefix + key: value for key, value in fields.items()}
    return fields | {"friend" if prefix else "hero": familiar}


def particle_follows(name: str) -> bool:
    """Whether the name ends in a final consonant."""
    return (ord(name[-1]) - ord("가")) % 28 != 0


def finish(chance: random.Random, text: str) -> str:
    """The text with one level of speech throughout: every sentence of the teller is past tense, so one ending fits all."""
    return text.replace("~", chance.choice(("습니다", "어요")))


OPENINGS = (
    "옛날 옛적에 {intro:이} 살고 있었~.",
    "옛날 옛적에 {intro:이} 살았~.",
    "옛날 옛적에 {place} 근처에 {intro:이} 살고 있었~.",
    "옛날 옛적, [어느 마을에|깊은 산속에|작은 집에] {intro:이} 살고 있었~.",
    "옛날에 {intro:이} 살고 있었~.",
    "옛날 어느 마을에 {intro:이} 있었~.",
    "어느 작은 마을에 {intro:이} 살고 있었~.",
    "{place} 옆 작은 집에 {intro:이} 살고 있었~.",
)

ENDINGS = (
    "그날부터 {hero:과} {friend:은} [가장 친한|둘도 없는|좋은] 친구가 되었~.",
    "{hero:과} {friend:은} [매일 함께 놀았|웃으며 집으로 돌아갔|사이좋게 지냈]~.",
    "그날 밤 {hero:은} [웃으며 잠들었|좋은 꿈을 꾸었|푹 잤]~.",
    "[정말 즐거운 하루였|참 좋은 하루였|잊지 못할 하루였]~.",
    "{hero:은} 그날을 [오래오래 기억했|잊지 않았]~.",
    "모두 오래오래 행복하게 살았~.",
    "{hero:은} [기쁜 마음으로|노래를 부르며|활짝 웃으며] 집으로 돌아갔~.",
    "",
    "",
)

NUMBERS = ({"n": "두", "left": "한"}, {"n": "세", "left": "두"}, {"n": "네", "left": "세"}, {"n": "다섯", "left": "네"})

PLOTS = (
    Plot(
        "lost",
        2,
        starts=(
            "{first:이} [길에서|풀밭에서|문 앞에서] {thing:을} 찾았~. {hero:은} 그것을 가지고 {place:으로} 갔~.",
            "{first:은} {thing:을} 가지고 있었~. 어느 날 그것을 들고 {place:으로} 갔~.",
            "어느 날, {first:은} {thing:을} 들고 {place:으로} 갔~.",
            "어느 {weather} 날, {first:이} {place}에서 {thing:을} 가지고 놀고 있었~.",
            "{first:은} 생일에 {thing:을} 받았~. 너무 기뻐서 {place:으로} 들고 나갔~.",
        ),
        beats=(
            ("{hero:은} {thing:을} [무척 아꼈|아주 좋아했|늘 가지고 다녔]~.", "{hero}에게는 {thing:이} 있었~. {hero:은} 그것을 [무척 아꼈|아주 좋아했]~."),
            ("어느 {weather} 날, {hero:은} {thing:을} 들고 {place:으로} 놀러 갔~.", "어느 날 아침, {hero:은} {place:으로} {thing:을} 가지고 나갔~."),
            ("그런데 집에 가려고 보니 {thing:이} 없었~.", "갑자기 바람이 휙 불더니 {thing:이} 사라졌~.", "한참 놀다 보니 {thing:이} 보이지 않았~.", "잠깐 쉬었다가 일어나 보니 {thing:이} 없어졌~."),
            ("\"앗, 내 {thing:이} 어디 갔지?\" {hero:은} 깜짝 놀랐~.", "{hero:은} [너무 슬퍼서 울었|울음을 터뜨렸]~.", "\"어떡하지? {thing:을} 잃어버렸어.\" {hero:은} 훌쩍훌쩍 울었~."),
            ("그때 {ffirst:이} 다가왔~. \"[왜 울고 있니?|무슨 일이야?]\" {friend:이} 물었~.", "{ffirst:이} 그 소리를 듣고 달려왔~. \"울지 마. 내가 도와줄게.\"", "마침 {ffirst:이} 지나가다가 말했~. \"우리 같이 찾아보자.\""),
            ("둘은 {here:을} 찾아보았지만 없었~. {there:을} 찾아보았지만 거기에도 없었~.", "먼저 {here:을} 보았~. 없었~. 다음에는 {there:을} 보았~. 역시 없었~.", "{hero:은} {here:을} 찾고 {friend:은} {there:을} 찾았~. 하지만 보이지 않았~."),
            ("마침내 {friend:이} {found}에서 {thing:을} 찾았~.", "그때 {found}에서 무언가가 보였~. 바로 {thing:이었}~.", "\"저기 봐!\" {friend:이} 소리쳤~. {thing:이} {found}에 있었~."),
            ("\"고마워, {fcall}!\" {hero:은} [정말 기뻤|활짝 웃었]~.", "{hero:은} {friend:을} 꼭 안아 주었~. \"도와줘서 고마워.\"", "{hero:은} 기뻐서 깡충깡충 뛰었~. \"{fcall}, 정말 고마워!\""),
        ),
        cases=({},),
    ),
    Plot(
        "sharing",
        2,
        starts=(
            "{first:은} {food} {n} 개를 가지고 있었~. 혼자 다 먹으려고 했~.",
            "어느 날, {first:이} {place}에서 {food} {n} 개를 찾았~.",
            "{first:이} {place}에 앉아 {food} {n} 개를 먹으려고 했~.",
            "어느 {weather} 날, {elder:이} {first}에게 {food} {n} 개를 주었~.",
        ),
        beats=(
            ("{hero:은} {food:을} 제일 좋아했~.", "{hero:은} {food} 먹는 것을 좋아했~.", ""),
            ("어느 날, {hero}에게 {food} {n} 개가 생겼~.", "어느 {weather} 날, {elder:이} {hero}에게 {food} {n} 개를 주었~.", "어느 날 아침, {hero:은} {place}에서 {food} {n} 개를 찾았~."),
            ("그때 {ffirst:이} 다가왔~. {friend:은} [배가 고파 보였|힘이 없어 보였]~.", "집으로 가는 길에 {hero:은} {ffirst:을} 만났~. {friend:은} 몹시 배가 고팠~.", "{ffirst:이} [길가에|나무 밑에] 혼자 앉아 있었~. {friend:은} 먹을 것이 없었~."),
            ("\"너무 배고파. 하나만 줄 수 있니?\" {friend:이} 말했~.", "\"오늘 아무것도 못 먹었어.\" {friend:이} 말했~.", "\"{food:이} 참 맛있겠다.\" {friend:이} 말했~."),
            ("{hero:은} {food:을} 바라보았~. 혼자 다 먹고 싶었~.", "{hero:은} 처음에는 나누어 주기 싫었~.", "{hero:은} 잠시 생각했~."),
            ("하지만 {friend:이} 불쌍해 보였~. 그래서 {food} 한 개를 주었~. 이제 {left} 개가 남았~.", "{hero:은} 웃으며 {friend}에게 {food} 한 개를 주었~. {left} 개가 남았~.", "\"자, 하나 먹어.\" {hero:이} 말했~. {food:은} {left} 개가 남았지만 그것으로 충분했~."),
            ("\"고마워. 너는 정말 착하구나.\" {friend:이} 말했~.", "{friend:은} {food:을} 먹고 활짝 웃었~. \"고마워, {call}!\"", "{friend:은} 기뻐서 춤을 추었~."),
            ("둘은 나란히 앉아 함께 먹었~. {food:은} 그 어느 때보다 맛있었~.", "둘은 해가 질 때까지 함께 먹고 이야기했~.", "{hero}도 기뻤~. 나누어 먹으니 마음이 따뜻해졌~."),
        ),
        cases=NUMBERS,
    ),
    Plot(
        "rescue",
        2,
        starts=(
            "{first:이} {where} 옆을 지나가다가 작은 소리를 들었~.",
            "어느 {weather} 날, {first:이} {where} 근처에서 우는 소리를 들었~.",
            "{first:이} 노래를 부르며 {where} 옆을 걷고 있었~.",
        ),
        beats=(
            ("{hero:은} [남을 돕는 것을 좋아했|혼자 걷는 것을 좋아했|노래를 부르며 걷기를 좋아했]~.", "{hero:은} 마음이 [따뜻했|착했]~.", ""),
            ("어느 {weather} 날, {hero:은} {where} 옆을 걷고 있었~.", "어느 날, {hero:은} {where} 근처로 산책을 갔~.", "어느 날 아침, {hero:이} {where} 옆을 지나가고 있었~."),
            ("\"도와주세요! 살려 주세요!\" 작은 목소리가 들렸~.", "갑자기 누군가 우는 소리가 들렸~.", "\"누구 없어요? 도와주세요!\" 하는 소리가 들렸~."),
            ("가 보니 {ffirst:이} {stuck} 있었~.", "{ffirst:이} {stuck} 있었~. 정말 큰일이었~."),
            ("{hero:은} {try} 했~. 하지만 {problem}~.", "먼저 {hero:은} {try} 했지만 {problem}~."),
            ("\"조금만 기다려. 좋은 생각이 있어.\" {hero:이} 말했~.", "\"무서워하지 마. 내가 꼭 도와줄게.\" {hero:이} 말했~.", "{hero:은} 포기하지 않았~. 곰곰이 생각했~."),
            ("{hero:은} {remedy}~.", "{hero:은} {elder}에게 달려가 도움을 청했~. 그리고 함께 돌아와 {remedy}~."),
            ("마침내 {friend:은} 빠져나왔~. \"구해 줘서 고마워.\" {friend:이} 말했~.", "드디어 {friend:은} 무사해졌~. \"{call}, 네가 나를 살렸어!\"", "{friend:은} 이제 안전했~. {friend:은} {hero:을} 꼭 안고 고맙다고 말했~."),
            ("\"우리 친구 하자.\" {hero:이} 말했~.", "\"[무사해서 다행이야|다음에는 조심해].\" {hero:이} 말했~.", ""),
        ),
        cases=(
            {"where": "낡은 우물", "stuck": "깊은 우물에 빠져", "try": "손을 뻗으려고", "problem": "우물이 너무 깊었", "remedy": "긴 밧줄을 내려 {friend:을} 끌어올렸"},
            {"where": "연못", "stuck": "진흙에 빠져", "try": "두 손으로 잡아당기려고", "problem": "진흙이 너무 끈적끈적했", "remedy": "튼튼한 나뭇가지를 내밀어 {friend:을} 꺼냈"},
            {"where": "키 큰 나무", "stuck": "나무 꼭대기에서 내려오지 못하고", "try": "나무에 올라가려고", "problem": "나무가 너무 높았", "remedy": "사다리를 가져와 {friend:을} 내려 주었"},
            {"where": "시냇물", "stuck": "시냇물 가운데 돌 위에 갇혀", "try": "건너뛰려고", "problem": "물살이 너무 빨랐", "remedy": "긴 통나무로 다리를 놓아 {friend:을} 건너오게 했"},
            {"where": "가시덤불", "stuck": "가시덤불에 걸려", "try": "가시를 밀어내려고", "problem": "가시가 너무 뾰족했", "remedy": "가시를 하나씩 잘라 {friend:을} 꺼냈"},
            {"where": "눈밭", "stuck": "깊은 눈에 파묻혀", "try": "손으로 눈을 파려고", "problem": "눈이 너무 차가웠", "remedy": "삽을 가져와 눈을 파고 {friend:을} 꺼냈"},
            {"where": "낡은 헛간", "stuck": "헛간에 갇혀", "try": "문을 밀어 보려고", "problem": "문이 너무 무거웠", "remedy": "돌 밑에서 열쇠를 찾아 문을 열었"},
        ),
    ),
    Plot(
        "fear",
        1,
        starts=(
            "{first:은} {fear:을} 무서워했~.",
            "{first:은} 용감했지만 {fear:은} 무서웠~.",
            "{first:이} 제일 무서워하는 것은 {fear:이었}~.",
        ),
        beats=(
            ("{hero:은} {fear:을} 무서워했~.", "{hero:은} 씩씩했지만 {fear:은} 무서웠~.", "{hero:이} 무서워하는 것이 하나 있었~. 바로 {fear:이었}~."),
            ("어느 {when}, {event}~.", "그러던 어느 {when}, {event}~."),
            ("{hero:은} [이불 속에 숨었|눈을 꼭 감았|덜덜 떨었]~. \"너무 무서워.\"", "\"나 무서워!\" {hero:이} 울먹였~.", "{hero:은} 가슴이 쿵쿵 뛰었~. 도망치고 싶었~."),
            ("{elder:이} 옆에 앉아 말했~. \"{comfort}\"", "\"걱정하지 마. {comfort}\" {elder:이} 말했~.", "{elder:이} {hero}의 손을 잡아 주었~. \"{comfort}\""),
            ("{hero:은} 숨을 크게 쉬고 {act}~.", "{hero:은} 천천히 {act}~."),
            ("{discovery}~.",),
            ("\"이제 하나도 안 무서워!\" {hero:이} 말했~.", "{hero:은} 웃었~. 더는 무섭지 않았~.", "\"내가 해냈어!\" {hero:이} 소리쳤~."),
            ("{elder:은} {hero:이} 자랑스러웠~.", "{elder:은} 웃으며 {hero:을} 꼭 안아 주었~.", ""),
        ),
        cases=(
            {"fear": "어둠", "when": "날 밤", "event": "방의 불이 꺼졌", "comfort": "어둠은 밤이 덮는 따뜻한 이불이란다.", "act": "창밖을 내다보았", "discovery": "하늘에는 별이 반짝반짝 빛나고 있었"},
            {"fear": "천둥", "when": "날 저녁", "event": "천둥이 우르르 쾅쾅 쳤", "comfort": "천둥은 구름이 북을 치는 소리란다.", "act": "천둥소리에 귀를 기울였", "discovery": "쿵쿵, 정말 북소리 같아서 박수를 쳤"},
            {"fear": "물", "when": "여름날", "event": "모두 호수로 헤엄치러 갔", "comfort": "발가락부터 살짝 넣어 보렴. 내가 잡아 줄게.", "act": "발가락을 물에 넣었", "discovery": "물은 시원했고 곧 첨벙첨벙 놀았"},
            {"fear": "높은 곳", "when": "날 아침", "event": "친구들이 높은 산에 올라갔", "comfort": "한 걸음씩 천천히 가면 된단다.", "act": "한 걸음씩 올라갔", "discovery": "꼭대기에서는 온 마을이 다 보였"},
            {"fear": "바람 소리", "when": "날 밤", "event": "바람이 윙윙 불었", "comfort": "바람은 노래를 부르는 거란다.", "act": "창문을 조금 열었", "discovery": "바람이 살며시 들어와 머리카락을 쓰다듬었"},
            {"fear": "낡은 집", "when": "날 오후", "event": "공이 낡은 집 마당으로 굴러갔", "comfort": "문을 두드리고 인사를 해 보렴.", "act": "문을 두드렸", "discovery": "친절한 아주머니가 나와 공과 과자를 주었"},
        ),
    ),
    Plot(
        "making",
        2,
        starts=(
            "{first:은} {made:을} 만들고 싶었~.",
            "어느 {weather} 날, {first:은} {made:을} 만들기로 했~.",
            "\"우리 {made:을} 만들자!\" {first:이} 말했~.",
            "{first:이} {stuff:을} 찾았~. \"이걸로 {made:을} 만들 수 있겠다!\"",
        ),
        beats=(
            ("{hero:은} 만들기를 좋아했~.", "{hero:은} 무엇이든 잘 만들었~.", ""),
            ("어느 {weather} 날, {hero:은} {made:을} 만들고 싶었~.", "어느 날, {hero:이} 말했~. \"{made:을} 만들어야지!\"", "어느 날 아침, {hero:은} 좋은 생각이 났~. {made:을} 만들기로 했~."),
            ("{hero:은} {stuff:을} 가지고 만들기 시작했~.", "{hero:은} 아침 내내 {stuff:으로} 열심히 만들었~."),
            ("하지만 {failure}~.", "그런데 이를 어쩌지요? {failure}~."),
            ("{hero:은} 속상했~. \"나는 못 하겠어.\"", "\"너무 어려워.\" {hero:은} 그만두고 싶었~.", "{hero:은} 주저앉아 한숨을 쉬었~."),
            ("그때 {ffirst:이} 와서 말했~. \"{advice}\"", "{ffirst:이} 그것을 보고 말했~. \"{advice}\"", "\"{advice} 같이 다시 해 보자.\" {ffirst:이} 말했~."),
            ("둘은 다시 해 보았~. 이번에는 {success}~!", "{hero:과} {friend:은} 힘을 합쳤~. 드디어 {success}~!", "둘은 한낮까지 열심히 했~. 그러자 {success}~."),
            ("\"우리가 해냈어!\" 둘은 소리쳤~.", "{hero:은} 무척 뿌듯했~. \"고마워, {fcall}!\"", "\"함께 하니까 훨씬 좋다.\" {hero:이} 말했~."),
        ),
        cases=(
            {"made": "연", "stuff": "종이와 막대기", "failure": "연이 자꾸 땅으로 떨어졌", "advice": "꼬리가 더 길어야 해.", "success": "연이 하늘 높이 날아올랐"},
            {"made": "케이크", "stuff": "밀가루와 달걀", "failure": "케이크가 납작하고 딱딱했", "advice": "설탕과 버터를 넣어야 해.", "success": "케이크가 크고 부드럽게 부풀었"},
            {"made": "배", "stuff": "나무와 끈", "failure": "배가 물속에 가라앉았", "advice": "더 가벼운 나무를 써야 해.", "success": "배가 물 위에 둥둥 떴"},
            {"made": "모래성", "stuff": "모래와 양동이", "failure": "모래성이 와르르 무너졌", "advice": "젖은 모래를 써야 해.", "success": "모래성이 높이 섰"},
            {"made": "나무집", "stuff": "널빤지와 못", "failure": "지붕이 쿵 하고 떨어졌", "advice": "내가 널빤지를 잡아 줄게.", "success": "튼튼하고 예쁜 나무집이 되었"},
            {"made": "눈사람", "stuff": "눈과 당근", "failure": "머리가 데굴데굴 굴러떨어졌", "advice": "머리는 몸보다 작아야 해.", "success": "눈사람이 빙그레 웃으며 섰"},
            {"made": "수프", "stuff": "당근과 감자", "failure": "수프에서 아무 맛도 나지 않았", "advice": "소금을 조금 넣어야 해.", "success": "수프가 아주 맛있어졌"},
        ),
    ),
    Plot(
        "truth",
        2,
        starts=(
            "{first:이} {elder}의 {fragile:을} 깨뜨렸~.",
            "쨍그랑! {first:이} 내려다보니 {elder}의 {fragile:이} 깨져 있었~.",
            "어느 날, {first:이} 집에서 놀다가 {elder}의 {fragile:을} 깨뜨렸~.",
        ),
        beats=(
            ("{hero:은} [집에서 뛰어놀기를 좋아했|공놀이를 좋아했]~.", ""),
            ("어느 날, {hero:은} 뛰어다니다가 탁자에 부딪혔~. 쨍그랑! {elder}의 {fragile:이} 떨어져 깨졌~.", "어느 날, 공이 날아가 {elder}의 {fragile}에 맞았~. 쨍그랑! {fragile:이} 깨졌~.", "어느 {weather} 날, {hero:은} 그만 {elder}의 {fragile:을} 떨어뜨렸~. {fragile:은} 깨지고 말았~."),
            ("{hero:은} 겁이 났~. '{elder:이} 화내시면 어떡하지?'", "'큰일 났다. 어떡하지?' {hero:은} 생각했~.", "{hero:은} 어쩔 줄 몰랐~. 마음이 무거웠~."),
            ("{hero:은} 깨진 조각을 침대 밑에 숨기고 싶었~.", "처음에는 문 뒤에 숨었~.", "{hero:은} 멀리 도망칠까 생각했~."),
            ("하지만 거짓말은 나쁜 것이었~.", "하지만 마음이 편하지 않았~.", "하지만 {hero:은} 정직하고 싶었~."),
            ("그래서 {hero:은} {elder}에게 가서 말했~. \"죄송해요. 제가 {fragile:을} 깨뜨렸어요.\"", "{hero:은} 사실대로 말했~. \"제가 {fragile:을} 깨뜨렸어요. 정말 죄송해요.\""),
            ("{elder:은} 화내지 않았~. \"솔직하게 말해 줘서 고맙구나.\"", "{elder:은} 놀랐지만 곧 웃었~. \"말해 줘서 고맙구나.\"", "{elder:은} {hero:을} 안아 주었~. \"사실대로 말하는 것은 용감한 일이란다.\""),
            ("둘은 함께 풀로 {fragile:을} 붙였~.", "둘은 조각을 주워 {fragile:을} 고쳤~.", "그 뒤로 {hero:은} 늘 조심했~."),
            ("{hero:은} 마음이 한결 가벼워졌~.", "{hero:은} 기분이 좋아졌~.", ""),
        ),
        cases=({"fragile": "컵"}, {"fragile": "꽃병"}, {"fragile": "접시"}, {"fragile": "등불"}, {"fragile": "화분"}, {"fragile": "시계"}),
    ),
    Plot(
        "gift",
        2,
        starts=(
            "내일은 {elder}의 생일이었~. 그런데 {first}에게는 선물이 없었~.",
            "{first:은} {elder}에게 선물을 주고 싶었~.",
            "'{elder}에게 무엇을 드릴까?' {first:은} 생각했~.",
        ),
        beats=(
            ("{hero:은} {elder:을} 무척 사랑했~.", "{hero:과} {elder:은} 늘 함께였~.", ""),
            ("어느 날, {elder}의 생일이 되었~.", "곧 {elder}의 생일이었~."),
            ("{hero:은} 선물을 주고 싶었지만 돈이 없었~.", "\"선물을 드리고 싶은데 돈이 없어.\" {hero:이} 말했~."),
            ("{hero:은} {ffirst}에게 물어보았~. \"직접 만들어 봐.\" {friend:이} 말했~.", "\"네 손으로 만들면 되지.\" {ffirst:이} 말했~.", "그때 좋은 생각이 떠올랐~."),
            ("그래서 {hero:은} {place:으로} 가서 {work}~.", "{hero:은} {place:으로} 나갔~. 거기서 {work}~."),
            ("하루 종일 걸렸지만 {hero:은} 멈추지 않았~.", "{hero:은} 저녁까지 열심히 했~.", "쉽지 않았지만 {hero:은} 최선을 다했~."),
            ("그리고 {elder}에게 {gift:을} 주었~. \"생일 축하해요!\"", "\"{elder}, 생일 축하해요!\" {hero:은} {gift:을} 내밀었~."),
            ("{elder:은} 무척 기뻐했~. \"이렇게 좋은 선물은 처음이구나.\"", "{elder:은} {hero:을} 꼭 안아 주었~. \"정말 예쁜 {gift:이}구나. 고맙다.\"", "{elder:은} 눈물을 글썽이며 웃었~. \"고맙구나, {call}.\""),
        ),
        cases=(
            {"gift": "꽃목걸이", "place": "들판", "work": "꽃을 따서 꽃목걸이를 만들었"},
            {"gift": "조개 팔찌", "place": "바닷가", "work": "예쁜 조개를 모아 조개 팔찌를 만들었"},
            {"gift": "바구니", "place": "강가", "work": "긴 풀을 엮어 바구니를 만들었"},
            {"gift": "그림", "place": "언덕", "work": "자리에 앉아 그림을 그렸"},
            {"gift": "노래", "place": "숲", "work": "새소리를 들으며 노래를 만들었"},
            {"gift": "카드", "place": "공원", "work": "고운 나뭇잎을 모아 카드를 만들었"},
        ),
    ),
    Plot(
        "rain",
        1,
        starts=(
            "어느 날, {first:과} {ffirst:은} {place:으로} 소풍을 갔~.",
            "{first:이} {ffirst:과} 함께 소풍을 갔~.",
            "어느 {weather} 날, {first:은} {food:을} 싸서 {ffirst:과} 함께 소풍을 갔~.",
        ),
        beats=(
            ("어느 {weather} 날, {hero:은} {ffirst:과} 함께 {place:으로} 소풍을 갔~.", "어느 날, {hero:은} {food:을} 싸서 {ffirst:과} {place:으로} 소풍을 갔~."),
            ("그런데 먹구름이 몰려오더니 비가 내리기 시작했~.", "갑자기 하늘이 어두워지고 비가 내렸~.", "후두두! 빗방울이 떨어지기 시작했~."),
            ("\"소풍을 망쳤어!\" {friend:이} 말했~.", "\"앗, 비가 오네!\" {hero:이} 소리쳤~.", "{friend:은} 속상했~. \"밖에서 놀고 싶었는데.\""),
            ("둘은 큰 나무 밑으로 뛰어가 비를 피했~.", "둘은 커다란 나뭇잎을 머리에 쓰고 작은 동굴로 달려갔~.", "둘은 오래된 오두막으로 뛰어 들어갔~."),
            ("\"우리 {game} 놀자.\" {hero:이} 말했~.", "{hero:은} 좋은 생각이 났~. \"{game} 놀면 되지!\""),
            ("둘은 {game} 깔깔 웃었~.", "둘은 {game} 노느라 비가 오는 것도 잊었~."),
            ("이윽고 비가 그쳤~. \"저기 봐! 무지개야!\" {friend:이} 말했~.", "잠시 뒤 해가 나오고 하늘에 무지개가 떴~."),
            ("\"정말 예쁘다. [비가 와서 더 좋았어|비도 나쁘지 않네].\" {hero:이} 말했~.", "둘은 물웅덩이를 첨벙첨벙 밟으며 집으로 갔~.", "두 친구는 오랫동안 무지개를 바라보았~."),
        ),
        cases=({"game": "노래를 부르며"}, {"game": "옛날이야기를 하며"}, {"game": "빗방울을 세며"}, {"game": "숨바꼭질을 하며"}, {"game": "수수께끼를 하며"}),
    ),
    Plot(
        "lonely",
        1,
        starts=(
            "{first}에게는 친구가 없었~.",
            "{first:은} 새 마을로 이사를 왔~. 함께 놀 친구가 없었~.",
            "{first:은} 늘 혼자였~.",
        ),
        beats=(
            ("{hero}에게는 함께 놀 친구가 없었~.", "{hero:은} 늘 혼자였~.", "{hero:은} 외로웠~."),
            ("{hero:은} 날마다 {place:으로} 가서 혼자 놀았~.", "어느 {weather} 날, {hero:은} {place}에 혼자 앉아 있었~.", "어느 날, {hero:은} {place:으로} 갔지만 아무도 없었~."),
            ("그때 {found}에 {ffirst:이} 보였~.", "그런데 {ffirst:이} {found}에서 빼꼼 내다보았~.", "거기서 {hero:은} {ffirst:을} 만났~."),
            ("{friend:은} 수줍어서 말을 하지 못했~.", "{friend}도 외로워 보였~.", "{friend:은} 멀리서 {hero:을} 바라보기만 했~."),
            ("{hero:은} 웃으며 말했~. \"안녕! 나랑 같이 놀래?\"", "\"안녕? 나는 {name:이야}. 너는 이름이 뭐니?\" {hero:이} 물었~.", "{hero:은} {food:을} 내밀었~. \"같이 먹을래?\""),
            ("{friend:은} 방긋 웃었~. \"응, 좋아!\"", "{friend:은} 고개를 끄덕였~. \"나도 친구를 찾고 있었어.\"", "\"정말? 좋아!\" {friend:이} 말했~."),
            ("둘은 해가 질 때까지 {gamed}~.", "둘은 하루 종일 {gamed}~."),
            ("\"내일 또 만나!\" {hero:이} 말했~. {hero:은} 이제 외롭지 않았~.", "\"내일 또 놀자.\" {friend:이} 말했~. {hero:은} 정말 기뻤~.", "이제 {hero}에게도 친구가 생겼~."),
        ),
        cases=({"gamed": "술래잡기를 했"}, {"gamed": "숨바꼭질을 했"}, {"gamed": "노래하고 춤을 추었"}, {"gamed": "언덕에서 데굴데굴 굴렀"}, {"gamed": "꽃을 땄"}, {"gamed": "예쁜 돌을 찾았"}),
    ),
    Plot(
        "seed",
        1,
        starts=(
            "{first:이} 작은 씨앗을 찾았~.",
            "어느 봄날, {first:이} {found}에서 작은 씨앗을 주웠~.",
            "{elder:이} {first}에게 작은 씨앗을 주었~.",
        ),
        beats=(
            ("어느 봄날, {hero:은} 작은 씨앗을 찾았~.", "어느 날, {elder:이} {hero}에게 작은 씨앗을 주었~.", "어느 날 아침, 새 한 마리가 {hero} 앞에 작은 씨앗을 떨어뜨렸~."),
            ("{hero:은} 씨앗을 [집 앞에|마당에] 심었~.", "\"무엇이 될까?\" {hero:은} 마당에 씨앗을 심었~."),
            ("날마다 물을 주었지만 아무 일도 일어나지 않았~.", "아침마다 물을 주었지만 싹이 나지 않았~.", "하루가 지나고 이틀이 지났~. 그래도 싹은 나오지 않았~."),
            ("\"왜 자라지 않을까?\" {hero:이} 물었~.", "{hero:은} 슬펐~. \"씨앗이 잠을 자나 봐.\""),
            ("\"조금만 기다려 보렴. 좋은 일에는 시간이 걸린단다.\" {elder:이} 말했~.", "{elder:은} 웃으며 말했~. \"조금만 더 기다려 보자.\""),
            ("그래서 {hero:은} [날마다 노래를 불러 주며|날마다 물을 주며|정성껏 돌보며] 기다렸~.",),
            ("그러던 어느 날 아침, 초록 잎이 쏙 나왔~!", "마침내 작은 새싹이 땅 위로 올라왔~."),
            ("새싹은 무럭무럭 자라 {plant:이} 되었~.", "여름이 되자 {plant:이} 되었~."),
            ("{share}~.",),
            ("\"기다리길 잘했어.\" {hero:이} 말했~.", "{hero:은} 무척 뿌듯했~.", ""),
        ),
        cases=(
            {"plant": "키 큰 해바라기", "share": "{hero:은} 새 씨앗을 친구들에게 나누어 주었"},
            {"plant": "커다란 사과나무", "share": "{hero:은} 빨간 사과를 {ffirst:과} 나누어 먹었"},
            {"plant": "커다란 호박", "share": "{hero:은} {ffirst:과} 함께 호박죽을 끓여 모두에게 나누어 주었"},
            {"plant": "예쁜 장미", "share": "{hero:은} 장미 한 송이를 {elder}에게 주었"},
            {"plant": "딸기밭", "share": "{hero:은} {ffirst:과} 함께 달콤한 딸기를 먹었"},
        ),
    ),
    Plot(
        "learning",
        1,
        starts=(
            "{first:은} {skill:을} 배우고 싶었~.",
            "{first:은} {skill:을} 못해서 속상했~.",
            "\"나도 {skill:을} 잘하고 싶어!\" {first:이} 말했~.",
        ),
        beats=(
            ("{hero:은} {skill:을} 배우고 싶었~.", "다른 친구들은 모두 {skill:을} 잘했지만 {hero:은} 못했~.", "{hero}에게는 꿈이 있었~. {skill:을} 잘하는 것이었~."),
            ("어느 {weather} 날, {hero:은} {where}에서 연습을 했~. 그런데 {fail}~.", "어느 날, {hero:은} {where:으로} 가서 해 보았~. 하지만 {fail}~."),
            ("다시 해 보았지만 잘 되지 않았~.", "한 번 더 해 보았~. 역시 소용없었~.", "두 번, 세 번 해 보았~. 너무 어려웠~."),
            ("\"나는 절대로 못할 거야.\" {hero:은} 눈물을 흘렸~.", "\"나한테는 너무 어려워.\" {hero:이} 말했~."),
            ("{ffirst:이} 그 모습을 보았~. \"포기하지 마! {tip}\"", "\"{tip} 내가 도와줄게.\" {ffirst:이} 말했~.", "{elder:이} 와서 말했~. \"{tip} 너는 할 수 있어.\""),
            ("{hero:은} 날마다 연습했~.", "{hero:은} 하고 또 했~.", "{hero:은} 아침부터 밤까지 연습했~."),
            ("그러던 어느 날, {success}~!", "마침내 {success}~!"),
            ("\"나도 할 수 있어!\" {hero:은} 기뻐서 소리쳤~.", "모두 박수를 쳐 주었~.", "\"드디어 해냈어!\" {hero:은} 활짝 웃었~."),
        ),
        cases=(
            {"skill": "헤엄", "where": "호수", "fail": "물만 잔뜩 먹었", "tip": "다리를 천천히 움직여 봐.", "success": "호수를 헤엄쳐 건넜"},
            {"skill": "자전거", "where": "공원", "fail": "쿵 하고 넘어졌", "tip": "앞을 똑바로 봐.", "success": "자전거를 타고 공원을 한 바퀴 돌았"},
            {"skill": "노래", "where": "언덕", "fail": "이상한 소리만 나왔", "tip": "입을 크게 벌려 봐.", "success": "아름다운 노래가 흘러나왔"},
            {"skill": "춤", "where": "마당", "fail": "발이 꼬여 넘어졌", "tip": "먼저 음악을 잘 들어 봐.", "success": "바람에 날리는 나뭇잎처럼 춤을 추었"},
            {"skill": "썰매", "where": "얼음판", "fail": "미끄러져 넘어졌", "tip": "무릎을 조금 굽혀 봐.", "success": "썰매를 타고 쌩쌩 달렸"},
            {"skill": "휘파람", "where": "문 앞", "fail": "바람 소리만 났", "tip": "입술을 동그랗게 모아 봐.", "success": "맑은 휘파람 소리가 났"},
        ),
    ),
    Plot(
        "magic",
        1,
        starts=(
            "{first:이} {found}에서 요술 {charm:을} 찾았~.",
            "어느 날, {first:이} 낡은 {charm:을} 주웠~. 그것은 요술 {charm:이었}~.",
            "\"이게 뭐지?\" {first:이} 말했~. 반짝이는 {charm:이었}~.",
        ),
        beats=(
            ("어느 날, {hero:은} {place:으로} 갔다가 {found}에서 낡은 {charm:을} 찾았~.", "어느 {weather} 날, {place} {found}에서 무언가가 반짝였~. {charm:이었}~."),
            ("\"나는 요술 {charm:이야}. 소원을 하나 들어줄게.\" {charm:이} 말했~.", "{charm:이} 빛나기 시작했~. \"소원을 하나 말해 보렴.\" 하는 소리가 들렸~."),
            ("{hero:은} 곰곰이 생각했~. {dream:을} 달라고 할까 했~.", "처음에 {hero:은} {dream:을} 갖고 싶었~."),
            ("그때 {ffirst:이} 생각났~. {friend:은} {need}~.", "그런데 {ffirst:이} 떠올랐~. {friend:은} {need}~."),
            ("\"{friend:이} {wish} 해 줘.\" {hero:이} 말했~.",),
            ("{charm:이} 환하게 빛났~. 그러자 {friend:은} {result}~.", "번쩍 빛이 나더니 {friend:은} {result}~."),
            ("{friend:은} 무척 기뻐했~. \"고마워, {call}!\"", "\"이건 기적이야!\" {friend:이} 소리쳤~."),
            ("{hero}에게 소원은 더 없었지만 마음은 행복했~.", "{charm:은} 사라졌지만 {hero:은} 기뻤~.", "\"제일 좋은 소원이었어.\" {hero:이} 말했~."),
        ),
        cases=(
            {"charm": "등잔", "dream": "사탕 산", "need": "아파서 누워 있었", "wish": "낫게", "result": "자리에서 벌떡 일어나 웃었"},
            {"charm": "반지", "dream": "황금 왕관", "need": "집에서 멀리 떨어져 있었", "wish": "집에 가게", "result": "가족이 있는 집으로 돌아왔"},
            {"charm": "조약돌", "dream": "장난감이 가득한 집", "need": "외투가 없어 추위에 떨고 있었", "wish": "따뜻하게", "result": "따뜻한 외투를 입고 있었"},
            {"charm": "방울", "dream": "커다란 성", "need": "배가 고팠", "wish": "배부르게", "result": "맛있는 음식을 실컷 먹었"},
            {"charm": "깃털", "dream": "금돈 한 자루", "need": "혼자 슬퍼하고 있었", "wish": "다시 웃게", "result": "다시 활짝 웃었"},
        ),
    ),
    Plot(
        "race",
        1,
        starts=(
            "{first:은} 달리기가 아주 빨랐~. 그래서 늘 자랑을 했~.",
            "\"내가 제일 빨라!\" {first:이} 말했~.",
            "{first:은} 달리기를 잘한다고 뽐냈~.",
        ),
        beats=(
            ("{hero:은} 달리기가 아주 빨랐~. \"아무도 나를 이길 수 없어.\" {hero:은} 늘 말했~.", "{hero:은} 빨리 달릴 수 있어서 늘 뽐냈~."),
            ("어느 날, {ffirst:이} 말했~. \"{goal}까지 누가 먼저 가나 겨뤄 보자.\"", "어느 {weather} 날, {hero:과} {ffirst:은} {goal}까지 달리기를 했~."),
            ("{hero:은} 웃었~. \"너는 너무 느리잖아!\"", "\"내가 쉽게 이길 거야.\" {hero:이} 말했~.", "모두 구경하러 왔~."),
            ("준비, 땅! {hero:은} 바람처럼 앞서 달렸~.", "둘은 달리기 시작했~. {hero:이} 금세 멀리 앞섰~."),
            ("가는 길에 {hero:은} 멈춰서 {pause}~.", "'시간은 많아.' {hero:은} 생각했~. 그래서 {pause}~."),
            ("하지만 {friend:은} 멈추지 않았~. 한 걸음 한 걸음 나아갔~.", "{friend:은} 느렸지만 쉬지 않고 걸었~."),
            ("{hero:이} 고개를 들어 보니 {friend:은} 벌써 {goal}에 가 있었~!", "{hero:은} 힘껏 달렸지만 너무 늦었~. {friend:이} 이겼~!"),
            ("\"{fcall}, 정말 대단해. 비웃어서 미안해.\" {hero:이} 말했~.", "{hero:은} 다시는 뽐내지 않았~.", "{hero:은} {friend}의 손을 잡았~. \"정말 잘했어!\""),
        ),
        cases=({"goal": "큰 느티나무", "pause": "낮잠을 잤"}, {"goal": "빨간 다리", "pause": "산딸기를 먹었"}, {"goal": "언덕 꼭대기", "pause": "나비를 쫓았"}, {"goal": "물레방아", "pause": "연못에 얼굴을 비춰 보았"}),
    ),
    Plot(
        "bedtime",
        1,
        starts=(
            "{first:은} 잠이 오지 않았~.",
            "밤이 깊었지만 {first:은} 아직 깨어 있었~.",
            "\"잠이 안 와요.\" {first:이} 말했~.",
        ),
        beats=(
            ("어느 날 밤, {hero:은} 잠이 오지 않았~.", "어느 날 밤, {hero:은} 눈을 말똥말똥 뜨고 누워 있었~."),
            ("왼쪽으로 누워도, 오른쪽으로 누워도 잠이 오지 않았~.", "열까지 세어 보았지만 소용없었~."),
            ("{hero:은} 일어나 {elder}에게 갔~. \"잠이 안 와요.\"", "\"{elder}, 잠이 안 와요.\" {hero:이} 말했~."),
            ("{elder:은} {soothe}~.",),
            ("창밖에는 [둥근|환한|노란] 달이 떠 있었~. 모두 조용했~.", "하늘에는 별이 반짝였~.", ""),
            ("{hero:은} 가만히 듣다가 눈이 스르르 감겼~.", "{hero:은} 하품을 했~. 눈이 점점 감겼~."),
            ("\"잘 자렴.\" {elder:이} 속삭였~.", "\"{elder}, 안녕히 주무세요.\" {hero:이} 작게 말했~."),
            ("{hero:은} 곧 잠이 들어 {dream} 꿈을 꾸었~.", "{hero:은} 새근새근 잠들었~. 그리고 {dream} 꿈을 꾸었~."),
        ),
        cases=(
            {"soothe": "조용히 자장가를 불러 주었", "dream": "구름 위를 나는"}, {"soothe": "달님 이야기를 들려주었", "dream": "달나라를 걷는"},
            {"soothe": "따뜻한 우유를 한 잔 주었", "dream": "우유 강을 건너는"}, {"soothe": "별을 보여 주었", "dream": "별과 함께 노는"},
            {"soothe": "고래 이야기를 들려주었", "dream": "고래와 헤엄치는"},
        ),
    ),
)
