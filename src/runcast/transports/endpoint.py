"""One path of a dialect over plain HTTP, as an ASGI application: its methods, and what becomes of an error."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from runcast.errors import ClientError, RuncastError
from runcast.transports.problems import not_allowed, problem_of
from runcast.transports.wire import Receive, Scope, Send, request_id_of

logger = logging.getLogger("runcast.posting")


class Endpoint(ABC):
    methods: Sequence[str] = ("POST",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = (
                await self._respond(request) if request.method in self.methods else not_allowed(scope, self.methods)
            )
        except Exception as error:
            response = self._refused(scope, error)
        await response(scope, receive, send)

    @abstractmethod
    async def _respond(self, request: Request) -> Response:
        """The answer to a request by one of the methods; what it raises is answered by `_refused`."""

    def _refused(self, scope: Scope, error: Exception) -> Response:
        """The answer to an error; logged, if it is not the client's doing."""
        if not isinstance(error, ClientError):
            level = logging.WARNING if isinstance(error, RuncastError) else logging.ERROR
            logger.log(level, "request failed", exc_info=error, extra={"request_id": request_id_of(scope)})
        return problem_of(scope, error)
