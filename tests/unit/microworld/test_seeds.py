"""Training data never knows the site's names."""

from __future__ import annotations

import itertools

from xinstruct.microworld.seeds import plain_texts, seed_pairs
from xinstruct.microworld.world import site_names


def test_seed_pairs_name_no_entity_of_the_site_over_a_hundred_seeds() -> None:
    for seed in range(100):
        names = site_names(seed, ["sw"], 40)
        for pair in seed_pairs(seed, ["sw"], 2, names):
            words = set(pair["response"].replace(".", " ").replace(",", " ").split())
            assert not names & words, (seed, names & words)


def test_pairs_of_a_language_do_not_depend_on_the_other_languages() -> None:
    alone = list(seed_pairs(7, ["ur"], 5, frozenset()))
    together = list(seed_pairs(7, ["sw", "ur"], 5, frozenset()))
    assert together[5:] == alone


def test_plain_texts_take_the_languages_in_turn_and_hold_no_instruction() -> None:
    texts = list(itertools.islice(plain_texts(3, ["sw", "ur"], 2), 10))
    assert len(texts) == 4
    assert all("covering" not in text for text in texts)
