"""Natural names that published systems use for the labels of well-known corpora."""

from __future__ import annotations

ENTITIES = {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "miscellaneous"}

POLARITIES = ("positive", "negative", "neutral", "conflict")

CHUNKS = {
    "NP": "noun phrase",
    "VP": "verb phrase",
    "PP": "prepositional phrase",
    "ADVP": "adverb phrase",
    "SBAR": "subordinated clause",
    "ADJP": "adjective phrase",
    "PRT": "particles",
    "CONJP": "conjunction phrase",
    "INTJ": "interjection",
    "LST": "list marker",
    "UCP": "unlike coordinated phrase",
}

ACE_EVENTS = {
    "Business:Merge-Org": "merge organization",
    "Business:Start-Org": "start organization",
    "Business:Declare-Bankruptcy": "declare bankruptcy",
    "Business:End-Org": "end organization",
    "Justice:Pardon": "grant pardon",
    "Justice:Extradite": "extradite",
    "Justice:Execute": "execute",
    "Justice:Fine": "impose fine",
    "Justice:Trial-Hearing": "conduct trial hearing",
    "Justice:Sentence": "issue sentence",
    "Justice:Appeal": "file appeal",
    "Justice:Convict": "convict",
    "Justice:Sue": "file lawsuit",
    "Justice:Release-Parole": "release on parole",
    "Justice:Arrest-Jail": "arrest and send to jail",
    "Justice:Charge-Indict": "charge and indict",
    "Justice:Acquit": "acquit",
    "Conflict:Demonstrate": "participate in protest or demonstration",
    "Conflict:Attack": "attack",
    "Contact:Phone-Write": "contact via written or telephone communication",
    "Contact:Meet": "meet",
    "Personnel:Start-Position": "start position",
    "Personnel:Elect": "elect",
    "Personnel:End-Position": "end position",
    "Personnel:Nominate": "nominate",
    "Transaction:Transfer-Ownership": "transfer ownership",
    "Transaction:Transfer-Money": "transfer money",
    "Life:Marry": "marry",
    "Life:Divorce": "divorce",
    "Life:Be-Born": "be born",
    "Life:Die": "die",
    "Life:Injure": "sustain injury",
    "Movement:Transport": "transport",
}

CROSSNER = {
    "academicjournal": "academic journal",
    "astronomicalobject": "astronomical object",
    "chemicalcompound": "chemical compound",
    "chemicalelement": "chemical element",
    "literarygenre": "literary genre",
    "misc": "miscellaneous",
    "musicalartist": "musical artist",
    "musicalinstrument": "musical instrument",
    "musicgenre": "music genre",
    "organisation": "organization",
    "politicalparty": "political party",
    "programlang": "program language",
}

OTHERS = {
    "GPE": "geopolitical entity",
    "FAC": "facility",
    "VEH": "vehicle",
    "WEA": "weapon",
}

WELL_KNOWN: dict[str, str] = {**ENTITIES, **CHUNKS, **ACE_EVENTS, **CROSSNER, **OTHERS}
"""Raw to natural names that no rule would find."""

PUBLISHED_ORDERS: dict[str, tuple[str, ...]] = {
    "ner": tuple(ENTITIES),
    "absa": POLARITIES,
    "chunking": tuple(CHUNKS),
    "events": tuple(ACE_EVENTS),
}
"""Label sets in the order in which the prompts of the instruction-tuned baseline list them, by the
name of its instruction."""
