"""Personal data in text: found by form and check digit, and masked."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import date

# What a detector takes for whole numbers must not be the middle of longer ones.
NOT_IN_NUMBER = r"(?<![\d.-])"
END = r"(?![\d-])"
EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}"
)
RESIDENT = re.compile(rf"{NOT_IN_NUMBER}(\d{{6}})(\s?-\s?)?([1-8]\d{{6}}){END}")
CARD = re.compile(
    rf"{NOT_IN_NUMBER}(?:\d{{4}}([ -])\d{{4}}\1\d{{4}}\1\d{{4}}|\d{{4}}([ -])\d{{6}}\2\d{{5}}|\d{{15,16}}){END}"
)
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
PHONE = re.compile(
    rf"(?<![\d.+-])(?:"
    # Korea: mobile 01x, regions 02 to 064, 050x and 070; with 82 before them the zero is left out
    rf"(?:\+?82[ .-]?\(?0?\)?|0)(?:1[016789]|2|[3-6][1-5]|50\d|70)\)?[ .-]?\d{{3,4}}[ .-]?\d{{4}}"
    rf"|1[568]\d{{2}}-\d{{4}}"  # Korea's shared numbers, 1588-0000
    rf"|(?:\+?1[ .-])?(?:\(\d{{3}}\) ?|\d{{3}}[.-])\d{{3}}[ .-]\d{{4}}"  # North America
    rf"|\+\d{{1,3}}(?:[ .-]?\(?\d{{1,4}}\)?){{2,5}}"
    rf"){END}"
)
# A bank's number has a form of its own in each bank, so it counts only near a word that says what it is.
BANK = re.compile(
    r"계좌|입금|송금|은행|뱅크|농협|수협|새마을금고|예금주|\baccounts?\b|\bbank\b|\bacct\b", re.IGNORECASE
)
ACCOUNT = re.compile(rf"{NOT_IN_NUMBER}\d{{2,6}}-\d{{2,6}}-\d{{2,7}}(?:-\d{{1,3}})?{END}")
NEAR = 30  # characters before a number in which such a word counts
ACCOUNT_DIGITS = range(10, 17)
MAY_HOLD = re.compile(r"@|\d[\d .()-]{6}")
CHECK_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
NO_CHECK_FROM = date(2020, 10, 5)  # from when on Korea's new numbers have no check digit
# By the seventh digit, which tells century and sex, and from 5 on foreigners
CENTURY = {"1": 1900, "2": 1900, "3": 2000, "4": 2000, "5": 1900, "6": 1900, "7": 2000, "8": 2000}


def resident_number(digits: str, written_apart: bool = True) -> bool:
    """Whether 13 digits are a Korean resident's number: a date, and the check digit of those who have one.

    Without the hyphen between date and number, one without a check digit is any number.
    """
    century, foreign = CENTURY[digits[6]], digits[6] in "5678"
    try:
        born = date(century + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(CHECK_WEIGHTS, digits, strict=False))
    right = int(digits[12]) == ((13 if foreign else 11) - total % 11) % 10
    return right or (written_apart and NO_CHECK_FROM <= born <= date.today())


def luhn(digits: str) -> bool:
    """Whether the last digit is right by Luhn's formula (ISO/IEC 7812-1)."""
    doubled = (int(digit) * (1 + number % 2) for number, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _card(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    # 2 to 6 are the networks, 9 what Korean cards that are good at home only begin with; 00000... is no card
    return digits[0] in "234569" and len(set(digits)) > 1 and luhn(digits)


def _iban(match: re.Match[str]) -> bool:
    """The remainder by 97 of the number, its beginning moved to its end and its letters told as 10 to 35, is 1."""
    code = match[0].replace(" ", "")
    return len(code) >= 15 and int("".join(str(int(sign, 36)) for sign in code[4:] + code[:4])) % 97 == 1


def _account(match: re.Match[str]) -> bool:
    digits = sum(sign.isdigit() for sign in match[0])
    before = match.string[max(0, match.start() - NEAR) : match.start()]
    return digits in ACCOUNT_DIGITS and BANK.search(before) is not None


def _phone(match: re.Match[str]) -> bool:
    return sum(sign.isdigit() for sign in match[0]) >= 7


# In this order, for a resident's number would else be taken for an account, a card for a phone.
DETECTORS: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], bool]]] = {
    "email": (EMAIL, lambda match: True),
    "resident": (RESIDENT, lambda match: resident_number(match[1] + match[3], bool(match[2]))),
    "card": (CARD, _card),
    "account": (IBAN, _iban),
    "bank account": (ACCOUNT, _account),
    "phone": (PHONE, _phone),
}
KINDS = {"bank account": "account"}


def masked(text: str) -> tuple[str, Counter[str]]:
    """The text with [email], [phone] and the like where personal data stood, and how many there were of each kind."""
    counts: Counter[str] = Counter()
    if not MAY_HOLD.search(text):
        return text, counts
    for name, (pattern, is_one) in DETECTORS.items():
        kind = KINDS.get(name, name)

        def mask(match: re.Match[str], kind: str = kind, is_one: Callable[[re.Match[str]], bool] = is_one) -> str:
            if not is_one(match):
                return match[0]
            counts[kind] += 1
            return f"[{kind}]"

        text = pattern.sub(mask, text)
    return text, counts
