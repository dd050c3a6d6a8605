"""Personal data is found by form and check digit, and other numbers are left alone."""

from collections import Counter

import pytest

from soban.learn.data.personal import luhn, masked, resident_number

# Numbers that the networks publish for tests
CARDS = ["4111 1111 1111 1111", "4111-1111-1111-1111", "5555555555554444", "378282246310005", "3782 822463 10005"]
# From the registries' own examples of IBANs
IBANS = ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"]


def check_digit(digits: str, foreign: bool = False) -> str:
    """By the sum that the statute's formula is usually written as, digit by digit."""
    total = 0
    for place in range(12):
        total += int(digits[place]) * (place % 8 + 2)
    return str(((13 if foreign else 11) - total % 11) % 10)


@pytest.mark.parametrize("start", ["900101123456", "851231298765", "050607312345", "100229412345"[:6] + "412345"])
def test_a_resident_number_counts_only_with_its_date_and_check_digit(start: str) -> None:
    if start[2:6] == "0229":
        assert not resident_number(start + check_digit(start))  # 2010 was no leap year
        return
    right = start + check_digit(start)
    assert resident_number(right)
    others = [right[:-1] + str(digit) for digit in range(10) if str(digit) != right[-1]]
    assert not any(map(resident_number, others))
    assert masked(f"번호 {right[:6]}-{right[6:]}입니다") == ("번호 [resident]입니다", Counter(resident=1))
    assert masked(f"번호 {right}")[1] == {"resident": 1}


def test_foreigners_have_their_own_check_digit_and_new_numbers_have_none() -> None:
    start = "850101512345"
    assert resident_number(start + check_digit(start, foreign=True))
    assert masked("221111-3123456")[0] == "[resident]"  # born after October 2020
    assert masked("2211113123456")[1]["resident"] == 0
    assert masked("991332-1234567")[1]["resident"] == 0


@pytest.mark.parametrize("number", CARDS)
def test_cards_are_found_by_luhn(number: str) -> None:
    digits = "".join(filter(str.isdigit, number))
    assert luhn(digits)
    assert masked(f"card {number}.") == ("card [card].", Counter(card=1))
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert masked(f"card {wrong}.")[1]["card"] == 0


@pytest.mark.parametrize("number", IBANS)
def test_ibans_are_found_by_their_remainder(number: str) -> None:
    assert masked(f"to {number} please")[0] == "to [account] please"
    assert masked(f"to {number[:2]}00{number[4:]} please")[1]["account"] == 0


@pytest.mark.parametrize(
    "number",
    ["010-1234-5678", "01012345678", "010 1234 5678", "011-234-5678", "02-123-4567", "031-1234-5678", "070-1234-5678",
     "+82 10-1234-5678", "+82-2-123-4567", "1588-1234", "(555) 123-4567", "555-123-4567", "+1 555-123-4567",
     "+44 20 7946 0958"],
)  # fmt: skip
def test_phone_numbers_are_masked(number: str) -> None:
    assert masked(f"전화는 {number}예요") == ("전화는 [phone]예요", Counter(phone=1))


@pytest.mark.parametrize("address", ["kim@example.com", "a.b+c@mail.example.co.kr", "x_1@sub.example.org"])
def test_mail_addresses_are_masked(address: str) -> None:
    assert masked(f"메일은 {address}로, <{address}>") == ("메일은 [email]로, <[email]>", Counter(email=2))


def test_an_account_counts_only_where_a_word_says_so() -> None:
    assert masked("국민은행 계좌 123456-04-123456으로 보내 주세요")[0] == "국민은행 계좌 [account]으로 보내 주세요"
    assert masked("부품 번호는 123456-04-123456")[1] == {}


@pytest.mark.parametrize(
    "text",
    ["2024-03-15 12:30:45", "3.14159265358979", "1,234,567,890원", "ISBN 978-3-16-148410-0", "v1.2.3-4.5.6",
     "192.168.100.200", "me @ home", "@handle", "1234567890123", "0000 0000 0000 0000", "서기 1999-2010년"],
)  # fmt: skip
def test_other_numbers_are_left_alone(text: str) -> None:
    assert masked(text) == (text, Counter())
