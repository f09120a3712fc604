"""What `make book` does not execute: chapters that a run shows until it is asked to make them."""

from finetune_geometry.settings.repetitions import CHAPTERS

SHIPPED = (
    *("ingredients/base_model", "ingredients/learning_rate"),
    *("controls/second_seed", "controls/matched_rate"),
)
#: Executed only when asked for, whatever the profile: they and their trainings take many times as
#: long as the rest of the book.
FURTHER = tuple(f"controls/{name}" for name in ("trainings", *CHAPTERS)) if CHAPTERS else ()


def why_asked(name: str, reference: bool) -> str:
    """Why a stage of this name is not executed unless asked for; "" if it is.

    reference: the profile is that of the run that ships.
    """
    if name in FURTHER:
        return "executed when asked for (make controls)"
    return "shown from the reference run unless asked for" if reference and name in SHIPPED else ""
