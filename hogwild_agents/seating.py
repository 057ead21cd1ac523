"""Seating: how the workers of a run get their desks, at its beginning and in mid-run."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING

from hogwild_agents.board import Place
from hogwild_agents.coordinator import TickFeed
from hogwild_agents.desk import Desk
from hogwild_agents.draft import Draft
from hogwild_agents.engine import CacheBlock, Sampler
from hogwild_agents.opening import introduce
from hogwild_agents.panel import Panel
from hogwild_agents.share import Share
from hogwild_agents.tool_use import ToolUse
from hogwild_agents.worker import Worker

if TYPE_CHECKING:
    from hogwild_agents.team import Team
    from hogwild_agents.thinking import Thinking


class Seating:
    """Gives the workers of one run their desks.

    Args:
        thinking: the workers together.
        team: how they sample, what they see, how texts are encoded.
        panel: the run's policies.
        share: its part of the cache.
    """

    def __init__(self, thinking: Thinking, team: Team, panel: Panel, share: Share) -> None:
        self._thinking = thinking
        self._team = team
        self._panel = panel
        self._share = share

    def seat(self, worker: Worker, place: Place) -> Desk:
        """Give a worker its desk.

        Raises:
            ConfigError: a policy that decides for each worker cannot be copied.
        """
        self._panel.join(worker.name)  # first: a seat without a worker would be waited for
        return self._seat(worker, place)

    def _seat(self, worker: Worker, place: Place) -> Desk:
        team, share, board = self._team, self._share, self._thinking.board
        board.limit(worker.name, sees=worker.sees, seen_by=worker.seen_by)
        draft = Draft(place, board, team.layout, team.headings, team.model, share.block)
        seated = copy.copy(worker)
        sampler = self._sampler(worker)
        desk = Desk(self._thinking, seated, draft, sampler, team.model.stop_ids, share)
        if seated.tools:
            desk.tool_use = ToolUse(seated, team.model, team.headings)
        self._thinking.desks[worker.name] = desk
        return desk

    def join(self, worker: Worker, block: CacheBlock) -> tuple[Desk, list[TickFeed]]:
        """Give a worker who joins in mid-run a place on the board, and a desk.

        Args:
            worker: who joins.
            block: what it writes first.

        Returns:
            the desk, and the feeds that introduce the worker.

        Raises:
            ConfigError: see :meth:`seat`; nobody has joined.
        """
        self._panel.join(worker.name)
        board, place = self._thinking.board, Place(worker.name, block)
        board.places.append(place)
        feeds = introduce(worker, place, board, self._team.opening, self._share.block)
        desk = self._seat(worker, place)
        board.seated(place)
        return desk, feeds

    def _sampler(self, worker: Worker) -> Sampler:
        team = self._team
        params = (worker.sampling or team.sampling)._banning(team.model.reasoning_bans)
        seed = worker.seed
        if seed is None:
            seed = random.Random(f"{team.seed}/{worker.name}").getrandbits(63)
        return Sampler(params, seed)
