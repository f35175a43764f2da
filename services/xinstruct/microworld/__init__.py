"""A synthetic multilingual web site with known truth: demo, end-to-end tests, helm test.

A leaf of the project: it imports nothing of xinstruct, and no stage imports it (an architecture test proves both).
Everything is a pure function of (seed, language), so a language's content never depends on its company.

    languages/   one data file a language: syllables, words, templates, boilerplate, neighbours
    templates    the template notation        inflection   suffixes that depend on a name's vowels
    forms        what kinds of document there are and the English instruction of each
    world        entities and their facts      documents    a text written from an entity's facts
    truth        the rules by which an instruction or a pair is right
    seeds        gold pairs and plain text about other worlds, for training
    site         which pages there are         defects      what is wrong with some of them
    pages, skins HTML                          site_server  serving it, changing it while it is served
"""
