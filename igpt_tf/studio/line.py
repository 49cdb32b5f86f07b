"""The line in which drawings wait: one is drawn at a time, and no browser waits for all drawings of another."""

from __future__ import annotations

import asyncio
from collections import Counter

from igpt_tf.errors import UserError

# More waiting drawings than this are refused.
MOST = 32


class FullError(UserError):
    """The line has no place left."""


class Ticket:
    """A place in the line.

    Attributes:
        client: whose drawing waits.
        place: how many drawings are before it; 0: it is its turn.
    """

    def __init__(self, client: str) -> None:
        self.client = client
        self.place = -1
        self._moved = asyncio.Event()

    def move(self, place: int) -> None:
        """Take another place."""
        if place != self.place:
            self.place = place
            self._moved.set()

    async def moved(self) -> int:
        """Wait until the place has changed since it was last asked for; the new one."""
        await self._moved.wait()
        self._moved.clear()
        return self.place


class Line:
    """First come, first served, and each browser one drawing before any has its next."""

    def __init__(self) -> None:
        # In the order of their coming.
        self._tickets: list[Ticket] = []
        # When each browser in the line had its last turn.
        self._served: dict[str, int] = {}
        self._n_served = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self, client: str) -> Ticket:
        """A new place.

        Args:
            client: whose drawing it is.

        Raises:
            FullError: if too many wait already.
        """
        self.check_room()
        ticket = Ticket(client)
        self._tickets.append(ticket)
        self._move()
        return ticket

    def check_room(self) -> None:
        """Whether one more may join.

        Raises:
            FullError: if too many wait already.
        """
        if len(self._tickets) >= MOST:
            raise FullError(f"expected fewer than {MOST} waiting drawings, got one more: try again later")

    def leave(self, ticket: Ticket) -> None:
        """Give a place up, from anywhere in the line.

        Args:
            ticket: the place.
        """
        self._tickets.remove(ticket)
        if ticket.place == 0:
            self._n_served += 1
            self._served[ticket.client] = self._n_served
        self._served = {other.client: self._served.get(other.client, 0) for other in self._tickets}
        self._move()

    def _move(self) -> None:
        """Tell everybody their places: whose turn it is keeps it."""
        before = Counter[str]()
        ranks = []
        for ticket in self._tickets:
            is_drawn = ticket.place == 0
            rank = (not is_drawn, before[ticket.client], self._served.get(ticket.client, 0))
            ranks.append((rank, ticket))
            before[ticket.client] += 1
        # Sorting keeps those of one rank in the order of their coming.
        for place, (_, ticket) in enumerate(sorted(ranks, key=lambda pair: pair[0])):
            ticket.move(place)
