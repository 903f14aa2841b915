"""A number is read as students write it, and each mistake gets the hint that fits it."""

import math

import pytest

from allora_lab.panels.number import NumberQuestion, number_in


@pytest.fixture
def question():
    return NumberQuestion(
        "The standard deviation of a mean of 16 numbers of standard deviation 8?",
        2,
        right="8 / √16.",
        mistakes={0.5: "The root is of the count alone.", 8: "A mean varies less than one number."},
        unit="points",
    )


def answered(question, text):
    question.given.value = text
    question.check.click()
    return question.verdict.value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2),
        (" 0.75 ", 0.75),
        ("0,75", 0.75),
        ("1,792", 1792),
        ("1,234,567.5", 1234567.5),
        ("0,125", 0.125),
        ("3/4", 0.75),
        ("−3", -3),
        ("12 %", 12),
        ("1e-3", 0.001),
    ],
)
def test_numbers_are_read_as_they_are_written(text, number):
    assert math.isclose(number_in(text), number)


@pytest.mark.parametrize("text", ["two", "1/0", "1/", "2x", "--2"])
def test_what_is_no_number_is_said_to_be_none(question, text):
    assert "no number" in answered(question, text)


def test_nothing_written_is_asked_for(question):
    assert answered(question, "  ") == "Write a number first."


def test_the_right_number_is_explained(question):
    assert answered(question, "2") == "<b>Right.</b> 8 / √16."


def test_a_known_mistake_has_its_own_hint(question):
    assert "root is of the count" in answered(question, "1/2")
    assert "varies less" in answered(question, "8")


@pytest.mark.parametrize("text", ["1.97", "2.03"])
def test_rounding_is_allowed_within_the_tolerance(question, text):
    assert answered(question, text).startswith("<b>Right.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.9", "too small. "),
        ("2.1", "too large. "),
        ("0.1", "too small, by more than a factor of ten"),
        ("21", "too large, by more than a factor of ten"),
        ("-2", "look at the sign"),
    ],
)
def test_other_numbers_are_told_where_they_lie(question, text, words):
    assert words in answered(question, text)


def test_a_wrong_answer_never_shows_the_right_one(question):
    for text in ("1.9", "21", "0.5", "8", "-2", "0"):
        assert "2" not in answered(question, text)


def test_a_mistake_that_is_the_answer_is_refused():
    with pytest.raises(ValueError, match="cannot be told from"):
        NumberQuestion("?", 2, right="", mistakes={2.01: ""})


def test_an_answer_of_zero_is_refused():
    with pytest.raises(ValueError, match="0 has no relative tolerance"):
        NumberQuestion("?", 0, right="", mistakes={})
