"""Training data never knows the site's names."""

from __future__ import annotations

import itertools
import unicodedata

from xinstruct.microworld.seeds import plain_texts, seed_pairs
from xinstruct.microworld.world import site_names

LANGUAGES = ("fi", "id", "th", "tr", "vi", "bn", "hi", "sw", "ta", "ur")


def test_seed_pairs_name_no_entity_of_the_site_over_a_hundred_seeds() -> None:
    for seed in range(100):
        language = LANGUAGES[seed % len(LANGUAGES)]
        names = site_names(seed, [language], 100)
        for pair in seed_pairs(seed, [language], 40, names):
            words = "".join(c if unicodedata.category(c)[0] in "LM" else " " for c in pair["response"]).split()
            runs = {" ".join(words[start : start + length]) for start in range(len(words)) for length in (1, 2, 3, 4)}
            assert not names & runs, (seed, names & runs)


def test_pairs_of_a_language_do_not_depend_on_the_other_languages() -> None:
    alone = list(seed_pairs(7, ["ur"], 5, frozenset()))
    together = list(seed_pairs(7, ["sw", "ur"], 5, frozenset()))
    assert together[5:] == alone


def test_plain_texts_take_the_languages_in_turn_and_hold_no_instruction() -> None:
    texts = list(itertools.islice(plain_texts(3, ["sw", "ur"], 2), 10))
    assert len(texts) == 4
    assert all("covering" not in text for text in texts)
