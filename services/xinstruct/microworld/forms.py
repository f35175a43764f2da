"""The kinds of document that there are, and the English instruction that each of them answers.

A form is a genre for a kind of entity. Its instruction follows from the document alone: the intent from its form, the
entity from its title, the aspects from the sections it has (all of them, in the order of the table below). Nothing
is decided by a hidden coin: `INTENT {name}, covering ASPECT, ASPECT.` is the one phrasing of gold instructions,
while `accepts` holds what else counts as right, in any order. Accepted forms are specific: none of them fits another
form's instruction by being generic ("write", "describe" alone are accepted nowhere).
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = (
    "town", "lake", "mountain", "person", "dish", "festival", "animal", "craft", "plant", "market", "bridge",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phrase:
    """The canonical wording and every wording that counts as right, the canonical key word first."""

    text: str
    accepts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """A genre for a kind of entity; aspects by their key in the language packs."""

    name: str
    kind: str
    genre: str
    intent: Phrase
    aspects: dict[str, Phrase]
    in_order: frozenset[str] = frozenset()
    """Aspects whose sentences keep the order of the pack (the steps of a recipe)."""
    questions: bool = False
    """True where the first sentence of each aspect is a question, and the others answer it."""


def instruction_of(form: Form, name: str, aspects: tuple[str, ...]) -> str:
    """Return the gold instruction, in English, for a document of the form whose sections are these aspects."""
    named = ", ".join(phrase.text for aspect, phrase in form.aspects.items() if aspect in aspects)
    covering = f"covering {named}" if named else "giving the main facts in brief"
    return f"{form.intent.text.replace('@', name)}, {covering}."


def _form(
    name: str,
    genre: str,
    intent: str,
    intent_accepts: str,
    aspects: dict[str, str],
    *,
    in_order: tuple[str, ...] = (),
    questions: bool = False,
) -> Form:
    """Read the notation of the table below: forms separated by '|', an aspect's first one is its canonical text."""
    phrases = {}
    for aspect, line in aspects.items():
        canonical, *others = line.split("|")
        phrases[aspect] = Phrase(canonical, (canonical.removeprefix("the ").removeprefix("its "), *others))
    return Form(
        name=name,
        kind=name.partition("_")[0],
        genre=genre,
        intent=Phrase(intent, tuple(intent_accepts.split("|"))),
        aspects=phrases,
        in_order=frozenset(in_order),
        questions=questions,
    )


_TABLE = (
    _form(
        "town_article", "encyclopedia", "Write an encyclopedia article about the town @",
        "encyclopedia article|encyclopaedia article|encyclopedic article|encyclopedia entry|encyclopedic entry"
        "|encyclopedic description|encyclopedic overview",
        {
            "history": "its history|historical|founding",
            "livelihoods": "its livelihoods|livelihood|economy|economic|occupations",
            "schools": "its schools|school|education|educational",
            "climate": "its climate|climatic|weather|rainfall",
        },
    ),
    _form(
        "town_travel", "travel", "Write a travel guide to @",
        "travel guide|travel article|travel guidebook|tourist guide|travelogue|visitor guide|visitor's guide",
        {
            "transport": "how to get there|getting there|how to reach|transport|transportation|travel directions",
            "lodging": "where to stay|lodging|accommodation|accommodations|guesthouses|guest houses|places to stay",
            "food": "what to eat|local food|cuisine|where to eat|local dishes|eating",
            "season": "the best time to visit|best season|when to visit|when to go|best time",
        },
    ),
    _form(
        "lake_article", "encyclopedia", "Describe the lake @",
        "describe the lake|describe lake|description of the lake|description of lake|article about the lake"
        "|article about lake|article on lake|article on the lake|overview of the lake|encyclopedia article",
        {
            "size": "its size and depth|size|depth|dimensions|how deep|area",
            "fishing": "the fishing|fish|fishery|fisheries|fishermen",
            "birds": "its birds|bird|birdlife|bird life|birdwatching",
            "legend": "its legend|legends|folklore|myth",
        },
    ),
    _form(
        "mountain_travel", "travel", "Write a hiking guide to the mountain @",
        "hiking guide|climbing guide|trekking guide|hiker's guide|guide to hiking|guide to climbing|guide for hikers"
        "|guide for climbers",
        {
            "route": "the route|routes|trail|trails|path",
            "equipment": "the equipment|gear|what to bring|what to pack|clothing",
            "ascent": "the first ascent|first climb|first climbed|first climber|first climbers",
            "view": "the view from the top|view|views|summit view|panorama|scenery",
        },
    ),
    _form(
        "person_article", "encyclopedia", "Tell the life story of @",
        "life story|biography|biographical|life of|life and work",
        {
            "childhood": "the childhood|early life|early years|upbringing",
            "career": "the career|professional life|professional career|working life",
            "family": "the family|family life|marriage|children",
            "awards": "the awards|award|prize|prizes|honours|honors|recognition",
        },
    ),
    _form(
        "dish_recipe", "recipe", "Write a recipe for @",
        "recipe for|recipe of|recipe|how to cook|how to prepare",
        {
            "ingredients": "the ingredients|ingredient|ingredient list",
            "steps": "the cooking steps|steps|method|step-by-step|step by step|cooking instructions",
            "serving": "the serving|serve|served|serving suggestions|how it is served",
            "storage": "the storage|store|storing|stored|how to store|leftovers",
        },
        in_order=("steps",),
    ),
    _form(
        "festival_news", "news", "Write a news report about the festival @",
        "news report|news article|news story|news item|newspaper article|newspaper report",
        {
            "visitors": "the visitors|visitor|attendance|crowd|crowds|number of visitors",
            "programme": "the programme|program|schedule of events|performances|events",
            "weather": "the weather|rain|weather conditions",
            "traffic": "the traffic|parking|road closures|traffic arrangements|transport",
        },
    ),
    _form(
        "festival_article", "encyclopedia", "Describe the festival @",
        "describe the festival|description of the festival|describe festival|encyclopedia article"
        "|overview of the festival|explain the festival|introduction to the festival",
        {
            "origin": "its origin|origins|history|beginnings|how it began",
            "costumes": "the costumes|costume|dress|clothes|clothing|traditional dress",
            "music": "the music|musical|songs|instruments|dance",
            "food": "the festive food|food|foods|dishes|meal|feast",
        },
    ),
    _form(
        "animal_article", "encyclopedia", "Describe the animal @",
        "describe the animal|description of the animal|describe animal|article about the animal"
        "|article on the animal|overview of the animal|encyclopedia article|profile of the animal",
        {
            "diet": "its diet|what it eats|feeding|food",
            "habitat": "its habitat|where it lives|habitats|range",
            "breeding": "its breeding|reproduction|young|offspring",
            "threats": "its threats|threat|conservation|dangers|protection|endangered",
        },
    ),
    _form(
        "craft_howto", "how-to", "Explain how @ is made",
        "is made|are made|how to make|making of|making|how to craft|the craft of|how to produce|handicraft",
        {
            "materials": "the materials|material|raw materials",
            "tools": "the tools|tool|equipment",
            "stages": "the stages of work|steps|stages|process|procedure|step-by-step|step by step",
            "price": "the price|prices|cost|selling|sale|sold",
        },
        in_order=("stages",),
    ),
    _form(
        "plant_howto", "how-to", "Explain how to grow @",
        "how to grow|how to plant|how to cultivate|growing|cultivation|cultivating|planting",
        {
            "soil": "the soil|soils|soil preparation|ground",
            "watering": "the watering|water|irrigation|watered",
            "pests": "the pests|pest|pest control|diseases",
            "harvest": "the harvest|harvesting|harvested|yield",
        },
    ),
    _form(
        "market_questions", "questions", "Answer visitors' questions about the market @",
        "questions about|questions on|frequently asked questions|faq|question and answer|questions and answers"
        "|visitors' questions|answer questions|answer the questions",
        {
            "hours": "the opening hours|opening times|hours|when it opens|opening time",
            "goods": "the goods|products|what is sold|wares|what to buy|merchandise",
            "prices": "the prices|price|bargaining|cost|haggling",
            "access": "how to get there|getting there|how to reach|transport|parking|location",
        },
        questions=True,
    ),
    _form(
        "bridge_news", "news", "Write a news report about the repair of the bridge @",
        "news report|news article|news story|news item|newspaper article|newspaper report",
        {
            "cost": "the cost|costs|budget|funding|price|expense",
            "schedule": "the schedule|timetable|timeline|completion|how long",
            "detour": "the detour|detours|diversion|diversions|traffic|alternative route|alternative routes",
            "reactions": "the residents' reactions|reactions|reaction|residents|opinions|locals",
        },
    ),
)  # fmt: skip

FORMS = {form.name: form for form in _TABLE}
