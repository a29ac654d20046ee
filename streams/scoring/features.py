"""What of a question can be counted: numbers by name, before any weight.

Words tell what is asked; the shape of the listed choices how close they lie; an open question how much is to be worked
out. The last two never meet: a prompt lists choices, or it doesn't.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import log1p

from streams.scoring.question import Question, words

_OPENING = 5  # words
_SYMBOLS = re.compile(r"[-+*/^=<>|\\]")
_NUMBER = re.compile(r"\d[\d,]*\.?\d*")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|\Z)")


def _lexicon(**lists: str) -> dict[str, tuple[str, ...]]:
    """word → the lists that it is on."""
    found: dict[str, tuple[str, ...]] = {}
    for name, entries in lists.items():
        for entry in entries.split():
            found[entry] = (*found.get(entry, ()), name)
    return found


_IN_CHOICES = _lexicon(
    negations="not except never no none neither nor least false incorrect without cannot unlikely",
    quantifiers="all some any only therefore thus hence because since implies every always must necessarily",
    comparisons="more less most least greater smaller higher lower best worst larger longer same equal than",
    conditions="if suppose assume assuming given unless whether when let would should could",
    modals="may might can will would should must shall",
    people="he she his her him they their them i me my we our",
    past="was were had did went said told made took gave",
    catch_alls="both above these",
)
_IN_OPEN = _lexicon(
    number_words="one two three four five six seven eight nine ten eleven twelve dozen twenty thirty forty fifty "
    "hundred thousand half twice thrice third quarter",
    relations="twice half thrice times double triple than older younger many much third quarter fourth fifth",
    comparisons="more less fewer than",
    rates="each every per apiece",
    remainders="left remaining rest remain remains",
    conditions="if when while until after before then but instead however unless whenever once",
    order="first second third last next",
    sharing="same equal equally between split share shares shared",
    additions="also another additional extra both other",
    restrictions="only except not no never without",
    people="he she his her they their",
    conjunctions="and",
    quantities="average ratio rate probability speed profit discount interest tax increase increases increased "
    "decrease decreases decreased reduce reduced",
    units="second seconds minute minutes hour hours day days week weeks month months year years dollar dollars cent "
    "cents mile miles feet foot inch inches pound pounds ounce ounces gallon gallons mph cm meter meters kg gram grams",
)


def terms(lowered: list[str]) -> Counter[str]:
    """Words and pairs of neighbours, counted."""
    return Counter(lowered + [f"{a} {b}" for a, b in pairwise(lowered)])


def opening(lowered: list[str]) -> Counter[str]:
    """Of the first five words: each, and their runs of two and three."""
    start = lowered[:_OPENING]
    return Counter(" ".join(start[n : n + size]) for size in (1, 2, 3) for n in range(len(start) - size + 1))


def choices(question: Question) -> dict[str, float]:
    """The shape of the listed choices; empty where none are listed."""
    listed = question.choices
    if not listed:
        return {}
    text, count = " ".join(listed), len(listed)
    split = [words(choice.lower()) for choice in listed]
    flat = [word for choice in split for word in choice]
    return {
        **_lengths(listed, question.stem),
        **_likeness(split, {word.lower() for word in question.words}),
        "numeric": sum(any(map(str.isdigit, choice)) for choice in listed) / count,
        "mostly digits": sum(sum(map(str.isdigit, choice)) > 0.3 * len(choice) for choice in listed) / count,
        "one or two words": sum(len(choice) <= 2 for choice in split) / count,
        "capitalised": sum(choice[:1].isupper() for choice in listed) / count,
        "names": _share(word[:1].isupper() for choice in listed for word in words(choice)[1:]),
        "word length": sum(map(len, flat)) / max(1, len(flat)),
        "full sentences": sum(choice.endswith(".") for choice in listed) / count,
        "commas": 20 * text.count(",") / (len(text) + 1),
        "yes or no": sum(choice[:1] in (["yes"], ["no"]) for choice in split) / count,
        "true or false": sum(choice[:1] in (["true"], ["false"]) for choice in split) / count,
        "symbols": log1p(len(_SYMBOLS.findall(text))),
        "percentages": float("%" in text),
        "money": float("$" in text),
        **_hits(_IN_CHOICES, flat),
    }


def open_question(question: Question) -> dict[str, float]:
    """How much there is to work out, where no choices are listed; empty where they are."""
    if question.choices:
        return {}
    stem, spoken = question.stem, question.words
    numbers = _NUMBER.findall(stem)
    sentences = [part for part in _SENTENCE_END.split(stem) if part.strip()]
    found = {
        "length": len(stem),
        "words": len(spoken),
        "distinct words": len(set(map(str.lower, spoken))),
        "sentences": len(sentences),
        "words a sentence": len(spoken) / max(1, len(sentences)),
        "last sentence": len(words(sentences[-1])) if sentences else 0,
        "names": len({word for word in spoken if word[0].isupper() and word[1:].islower()}),
        "commas": stem.count(","),
        "numbers": len(numbers),
        "largest number": max(map(_value, numbers), default=0.0),
        "decimals": sum("." in number[:-1] for number in numbers),
        "percentages": stem.count("%"),
        "money": stem.count("$"),
        "questions": stem.count("?"),
    }
    return {name: log1p(value) for name, value in found.items()} | _hits(_IN_OPEN, [word.lower() for word in spoken])


def _lengths(listed: list[str], stem: str) -> dict[str, float]:
    lengths = [len(choice) for choice in listed]
    mean = sum(lengths) / len(lengths)
    spread = (sum((length - mean) ** 2 for length in lengths) / len(lengths)) ** 0.5
    return {
        "length": log1p(mean),
        "shortest": log1p(min(lengths)),
        "longest": log1p(max(lengths)),
        "unlike lengths": spread / (mean + 1),
        "longer than the question": log1p(sum(lengths)) - log1p(len(stem)),
    }


def _likeness(split: list[list[str]], asked: set[str]) -> dict[str, float]:
    bags = [set(choice) for choice in split]
    pairs = [len(a & b) / max(1, len(a | b)) for n, a in enumerate(bags) for b in bags[:n]]
    return {
        "alike": sum(pairs) / max(1, len(pairs)),
        "most alike": max(pairs, default=0.0),
        "repeat the question": sum(len(bag & asked) / max(1, len(bag)) for bag in bags) / len(bags),
    }


def _hits(lexicon: Mapping[str, tuple[str, ...]], lowered: Iterable[str]) -> dict[str, float]:
    counts = Counter(name for word in lowered for name in lexicon.get(word, ()))
    return {name: log1p(count) for name, count in counts.items()}


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / max(1, len(found))


def _value(number: str) -> float:
    return min(float(number.replace(",", "")), 1e9)
