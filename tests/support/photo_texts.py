"""Texts about eight photos: five references, a paragraph, and the COCO objects in them. There are no image files."""

from rlcap.types import Sample

TEXTS = {
    "bus": (
        ["A red bus drives down a wet street.", "A double decker bus on a city road.", "The bus passes people on the sidewalk.",
         "A tall red bus in traffic in the rain.", "A bus on a street with cars behind it."],
        "A red double decker bus drives down a wet city street in the rain. Two cars follow behind it. People with umbrellas "
        "walk on the sidewalk beside old brick buildings.",
        ["bus", "car", "person", "umbrella"],
    ),
    "dog": (
        ["A brown dog sleeps on a gray couch.", "A puppy lies on a sofa next to a pillow.", "The dog is napping on the couch.",
         "A small brown dog resting on some cushions.", "Dog asleep on a living room sofa."],
        "A small brown dog is asleep on a gray couch in a living room. Its head rests on a striped pillow. A remote control and "
        "a book lie beside it.",
        ["dog", "couch", "remote", "book"],
    ),
    "pizza": (
        ["A pizza with basil on a wooden table.", "A sliced pizza next to a glass of wine.", "Someone cuts a cheese pizza with a knife.",
         "A whole pizza on a plate with a fork.", "Dinner table with a pizza and red wine."],
        "A sliced cheese pizza with basil leaves lies on a white plate on a wooden table. A glass of red wine stands to its right, "
        "and a knife and a fork are laid out in front.",
        ["pizza", "wine glass", "knife", "fork", "dining table"],
    ),
    "surfer": (
        ["A man rides a surfboard on a large wave.", "A surfer in a black wetsuit on a wave.", "The surfer balances in the spray.",
         "A person surfing in the ocean.", "Man on a white surfboard riding a wave."],
        "A man in a black wetsuit rides a white surfboard along the face of a large green wave. Spray flies up behind him. "
        "The sky above the ocean is clear and blue.",
        ["person", "surfboard"],
    ),
    "zebras": (
        ["Two zebras graze in tall dry grass.", "A pair of zebras in a field.", "Zebras eating grass near a tree.",
         "Two zebras stand side by side on the plain.", "A zebra and its foal in the savanna."],
        "Two zebras graze side by side in tall yellow grass. A single tree with a flat crown stands in the distance. "
        "Dark clouds gather over the plain.",
        ["zebra"],
    ),
    "kitchen": (
        ["A kitchen with white cabinets and a steel oven.", "A clean kitchen with a sink under the window.", "A modern kitchen with a fridge.",
         "Kitchen with wooden counters and a stove.", "A bowl of fruit on a kitchen counter."],
        "A bright kitchen has white cabinets, a steel oven and a tall refrigerator. A sink stands under the window. "
        "A bowl of oranges is on the wooden counter.",
        ["oven", "refrigerator", "sink", "bowl", "orange"],
    ),
    "train": (
        ["A yellow train stops at a station.", "People wait on the platform for a train.", "A commuter train beside a platform with a clock.",
         "A train pulls into the station at dusk.", "The yellow train has its doors open."],
        "A yellow commuter train has stopped at a station at dusk. Three people with suitcases wait on the platform. "
        "A large round clock hangs from the roof above a bench.",
        ["train", "person", "suitcase", "clock", "bench"],
    ),
    "kite": (
        ["A child flies a kite on the beach.", "A girl with a colorful kite near the sea.", "A kid runs on sand holding a kite string.",
         "A rainbow kite in the air over a beach.", "A little girl plays with a kite at the shore."],
        "A little girl in a blue dress runs along the beach with a rainbow kite. The kite flies high above the calm sea. "
        "A black dog chases her through the sand.",
        ["person", "kite", "dog"],
    ),
}  # fmt: skip


def photo_texts():
    """Return eight samples; `meta["objects"]` lists their objects."""
    ids = list(TEXTS)
    return [
        Sample(
            name,
            f"{name}.jpg",
            tuple(references),
            paragraph,
            {"hard": tuple(other for other in ids if other != name)},
            {"objects": objects},
        )
        for name, (references, paragraph, objects) in TEXTS.items()
    ]
