"""A collection of released weights, held against the ledger: from folders to verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from finetune_geometry.deltas.collection import Row, kept, open_collection, propose
from finetune_geometry.evaluation.adapter_roles import Cast, Protocol, cast, filled, kinds_of_pairs
from finetune_geometry.evaluation.claims import Claim, Ledger
from finetune_geometry.evaluation.released import (
    STAND_IN,
    Released,
    judged,
    printed_table,
    weights_ledger,
    yardstick_words,
)
from finetune_geometry.geometry.collection_tables import PAIR_COLUMNS, collection_tables
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import RELEASED_FILES, fetched
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import Released as Chosen

FOLDER_COLUMNS = [
    *("folder", "part", "name", "method", "variant", "seed", "learning_rate", "step", "norm"),
    *("entropy_rank", "note"),
]


@dataclass(frozen=True)
class Findings:
    """What a collection says; all tables are there, and empty, where there is no collection.

    Attributes:
        claims: the claims that weights alone can answer.
        table, rules, conditions: as of `judging.judge_claims`.
        printed: as of `released.printed_table`.
        yardsticks: claim -> words.
        folders: a row for each folder: what it is taken for and what was measured of it.
        pairs: as of `CollectionTables.pairs`, with `kind` (`adapter_roles.kinds_of_pairs`).
        cast: who plays which role ("part" in the table), and which are open.
        modules: how many were compared.
    """

    claims: dict[str, Claim]
    table: pd.DataFrame
    rules: pd.DataFrame
    conditions: pd.DataFrame
    printed: pd.DataFrame
    yardsticks: dict[str, str]
    folders: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=FOLDER_COLUMNS))
    pairs: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=[*PAIR_COLUMNS, "kind"])
    )
    cast: Cast = field(default_factory=lambda: Cast({}, {}, {}))
    modules: int = 0


def here(chosen: Chosen, profile: str) -> tuple[Path | None, str]:
    """The local folder of a collection, and words on where it is; None: it has to be fetched first.

    A folder stands for itself, relative to the checkout.
    """
    folder = project_root() / Path(chosen.collection).expanduser()
    if folder.is_dir():
        return folder, f"{chosen.collection}, a folder"
    try:
        at = fetched(chosen.collection, chosen.revision, "model", profile, RELEASED_FILES)
    except UserError:
        return None, f"{chosen.collection} is not here: `make released` fetches it"
    return at, f"{chosen.collection} at {chosen.revision[:12]}"


def hold_against(
    ledger: Ledger,
    released: Released,
    protocol: Profile,
    root: Path | None,
    table: Path,
    *,
    blanks: str = "unknown",
) -> Findings:
    """Measure the collection below `root` and judge it; None: nothing is there, nothing is said.

    Args:
        protocol: the profile whose seeds, rates and steps the roles ask for, and whose k is used.
        table: the CSV file that says what each folder is; made where it is missing.
        blanks: what empty cells of it mean, see `adapter_roles.filled`.
    """
    claims, settings = weights_ledger(ledger, released), protocol.flat()
    if root is None:
        return Findings(
            claims,
            *judged(claims, released, {}, settings),
            printed_table(released, {}, settings),
            {name: yardstick_words(name, released, {}, settings) for name in claims},
        )
    members = open_collection(root)
    rows = kept(table, propose(members, released.grid.grid()))
    stated = Protocol.of(protocol)
    rows = filled(rows, stated, blanks)
    roles = cast(rows, stated)
    adapters = []
    for member in members:
        if member.folder in roles.names and member.adapter is not None:
            member.adapter.name = roles.names[member.folder]
            adapters.append(member.adapter)
    if len(adapters) < 2:
        raise UserError(f"fewer than two adapters to compare: {table}: write yes under use")
    try:
        found = collection_tables(
            adapters,
            list(roles.played),
            k=protocol.geometry.k,
            confidence=protocol.evaluation.confidence,
            seed=protocol.geometry.seed,
        )
    except UserError as error:
        raise UserError(f"{error} (to leave a folder out: no under use in {table})") from None
    by_name = {roles.names[row.folder]: row for row in rows if row.folder in roles.names}
    both = list(zip(found.pairs["a"], found.pairs["b"], strict=True))
    pairs = found.pairs.assign(kind=kinds_of_pairs(both, by_name, stated))
    tables = found.ledger
    if tables:
        tables = {**tables, "yardstick": pairs.rename(columns={"cosine": "value"})}
    return Findings(
        claims,
        *judged(claims, released, tables, settings),
        printed_table(released, tables, settings),
        {name: yardstick_words(name, released, tables, settings) for name in claims},
        _folders(rows, roles, found.adapters),
        pairs,
        roles,
        len(adapters[0].shapes),
    )


def _folders(rows: list[Row], roles: Cast, measured: pd.DataFrame) -> pd.DataFrame:
    part_of = {row.folder: name for name, row in roles.played.items()}
    table = pd.DataFrame(
        [
            (row.folder, part_of.get(row.folder, ""), roles.names.get(row.folder, ""), row.method,
             row.variant, row.seed, row.learning_rate, row.step, row.note)
            for row in rows
        ],
        columns=[name for name in FOLDER_COLUMNS if name not in ("norm", "entropy_rank")],
    )  # fmt: skip
    return table.merge(measured, on="name", how="left")[FOLDER_COLUMNS]


def result_table(found: Findings, released: Released) -> pd.DataFrame:
    """A row a claim, in words: printed, measured, verdict, expected verdict, yardstick."""
    judged_by = set(found.rules.loc[found.rules["version"] == STAND_IN, "claim"])
    verdicts = found.table.set_index("claim").to_dict("index")
    rows = []
    for name, claim in found.claims.items():
        row = verdicts.get(name)
        verdict = "not measured" if row is None else str(row["verdict"])
        if name in judged_by:
            verdict += " (by the rule for weights alone)"
        rows.append(
            (name, claim.title, claim.paper, "not measured" if row is None else _measured(row),
             verdict, released.predictions.verdicts[name].verdict, found.yardsticks[name])
        )  # fmt: skip
    columns = ["claim", "what it says", "the paper prints", "the released weights", "verdict"]
    return pd.DataFrame(rows, columns=[*columns, "expected", "yardstick"])


def _measured(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["value"]):
        return f"not measured ({row['detail']})" if row["detail"] else "not measured"
    ends = f" ({row['low']:.3g} to {row['high']:.3g})" if pd.notna(row["low"]) else ""
    line = str(row["line"])  # no sign that a page could take for a tag
    for sign, words in ((">=", "at least"), ("<=", "at most"), (">", "above"), ("<", "below")):
        line = line.replace(sign, words)
    return f"{row['measure']}: {row['value']:.4g}{ends}; asked for {line}"


def folder_table(found: Findings) -> pd.DataFrame:
    """The folders as text: what each is taken for, and what was measured of it."""

    def shown(value: Any, form: str) -> str:
        return "" if value is None or pd.isna(value) else format(value, form)

    forms = {"seed": ".0f", "learning_rate": "g", "step": ".0f", "norm": ".3g"}
    forms |= {"entropy_rank": ".1f"}
    table = found.folders.drop(columns=["name"])
    texts = {
        name: [shown(value, forms.get(name, "")) for value in table[name]] for name in table.columns
    }
    return pd.DataFrame(texts).rename(columns=lambda name: name.replace("_", " "))
