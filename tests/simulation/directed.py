"""All directed schedules by name."""

from tests.simulation import directed_members, directed_raft, directed_state
from tests.simulation.stage import Script, play_script

__all__ = ["SCRIPTS", "play_script"]

SCRIPTS: dict[str, Script] = {**directed_raft.SCRIPTS, **directed_members.SCRIPTS, **directed_state.SCRIPTS}
