"""The words of the generated problems: step kinds, their phrasings, irrelevant sentences, names.

Pure data, kept apart from `generator` so that a teacher can read or extend the language of the
problems without touching the arithmetic.  In a phrasing `{who}` is the person whose quantity is
followed, `{They}` their pronoun, `{other}` the new person of a comparison, `{things}` what is
counted, `{n}` the number of the step, `{box}` a container, and `{new}` what is counted afterwards.
"""

NAMES = {
    "He": (
        "Adam Ben Carl Dan Eric Finn George Hugo Ivan Jack "
        "Karim Leo Max Nils Omar Paul Ravi Sam Tom Yusuf"
    ).split(),
    "She": (
        "Alice Bella Clara Dina Emma Fatima Grace Hana Ines Julia "
        "Kira Lena Maria Nora Olga Priya Rosa Sara Tina Zoe"
    ).split(),
}

THINGS = (
    "apples pears plums lemons cookies muffins eggs nuts stamps coins cards marbles shells stones "
    "beads buttons books pens pencils stickers ribbons candles flowers tulips seeds toys dolls "
    "cars balls hats"
).split()

CONTAINERS = "boxes bags baskets crates jars trays".split()

FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}

TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}

OPENINGS = (
    "{who} has {n} {things}.",
    "{who} starts with {n} {things}.",
    "There are {n} {things} on the table of {who}.",
    "{who} owns {n} {things}.",
    "{who} counts {n} {things} in the morning.",
)

STEP_KINDS: dict[str, tuple[str, ...]] = {
    "add": (
        "{who} picks up {n} more {things}.",
        "Then {who} finds {n} {things}.",
        "{They} gets {n} {things} from a friend.",
        "A neighbour brings {who} {n} {things}.",
        "{n} more {things} arrive for {who}.",
    ),
    "subtract": (
        "{who} gives {n} {things} to a friend.",
        "Then {who} loses {n} {things}.",
        "{They} throws away {n} {things}.",
        "{n} of the {things} are of no use and {who} leaves them behind.",
        "{who} sends {n} {things} to the school.",
    ),
    "multiply": (
        "The next day {who} has {times} as many {things} as before.",
        "A week later the number of {things} is {times} as large.",
        "{who} trades and ends up with {times} the number of {things}.",
        "By evening {they} has {times} as many {things}.",
    ),
    "half": (
        "{who} gives half of the {things} away.",
        "Half of the {things} get lost.",
        "{They} hands half of the {things} to the school.",
        "{who} keeps just half of the {things}.",
    ),
    "fraction": (
        "{who} gives {fraction} of the {things} away.",
        "Then {fraction} of the {things} get lost.",
        "{They} hands {fraction} of the {things} to the school.",
        "A friend takes {fraction} of the {things} home.",
    ),
    "percent_less": (
        "{who} gives {n}% of the {things} away.",
        "Then {n}% of the {things} get lost.",
        "{They} hands {n}% of the {things} to the school.",
        "{n}% of the {things} are of no use and {who} leaves them behind.",
    ),
    "percent_more": (
        "The number of {things} grows by {n}%.",
        "{who} gets {n}% more {things} than before.",
        "A week later there are {n}% more {things}.",
        "{They} adds {n}% to the {things}.",
    ),
    "more_than": (
        "{other} has {n} more {things} than {who}.",
        "{other} counts {n} {things} more than {who}.",
        "Compared with {who}, {other} owns {n} more {things}.",
        "{who} has {n} {things} less than {other}.",
    ),
    "fewer_than": (
        "{other} has {n} fewer {things} than {who}.",
        "{other} counts {n} {things} less than {who}.",
        "Compared with {who}, {other} owns {n} fewer {things}.",
        "{who} has {n} {things} more than {other}.",
    ),
    "times_as_many": (
        "{other} has {times} as many {things} as {who}.",
        "{other} owns {times} the number of {things} of {who}.",
        "Compared with {who}, {other} counts {times} as many {things}.",
        "For each of the {things} of {who}, {other} has {n} {things}.",
    ),
    "part_as_many": (
        "{other} has {fraction} as many {things} as {who}.",
        "{other} owns {fraction} of the number of {things} of {who}.",
        "Compared with {who}, {other} counts {fraction} as many {things}.",
        "{who} has {n} {things} for each one that {other} has.",
    ),
    "together": (
        "{who} and {other} put all their {things} together.",
        "{other} gives all the {things} of {other} to {who}.",
        "{who} takes over the {things} of {other} too.",
        "Then {who} adds the {things} of {other} to the {things} of {who}.",
    ),
    "share": (
        "{who} shares the {things} equally with friends so that each of {n} people gets the same.",
        "{n} people, {who} among them, split the {things} equally.",
        "The {things} are divided equally among {who} and others, {n} people in all.",
        "{who} puts the {things} into {n} equal piles and keeps one pile.",
    ),
    "pack": (
        "{who} packs the {things} into {box} of {n}.",
        "{They} puts {n} {things} into each of the {box}.",
        "The {things} fill {box} that hold {n} each.",
        "{who} sorts the {things} into {box} with {n} in each.",
    ),
    "unpack": (
        "Each of the {things} holds {n} {new} and {who} takes them all out.",
        "{who} trades each of the {things} for {n} {new}.",
        "For each of the {things} {who} gets {n} {new}.",
        "{who} opens all the {things} and finds {n} {new} in each.",
    ),
    "sell": (
        "{who} sells all the {things} for {n} dollars each.",
        "The {things} cost {n} dollars each and {who} sells them all.",
        "A shop pays {who} {n} dollars for each of the {things}.",
        "{who} gets {n} dollars for each of the {things}.",
    ),
    "spend": (
        "{who} spends all the dollars on {new} that cost {n} dollars each.",
        "{New} cost {n} dollars each and {who} buys as many as possible.",
        "With all the dollars {who} buys {new} for {n} dollars each.",
        "At {n} dollars each, {who} buys {new} with all the dollars.",
    ),
}

DISTRACTORS = (
    "{who} is {n} years old.",
    "The way home takes {n} minutes.",
    "A bus ticket costs {n} dollars.",
    "There are {n} people in the street.",
    "{who} lives in house number {n}.",
    "It rains for {n} hours.",
    "The brother of {who} is {n} years old.",
    "The shop opens at {n} in the morning.",
)

QUESTIONS = (
    "How many {things} does {who} have now?",
    "How many {things} does {who} have in the end?",
    "What is the number of {things} that {who} has now?",
    "Find the number of {things} of {who}.",
)
