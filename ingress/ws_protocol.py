"""A WebSocket whose requests may end before the process does."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_FAREWELL_SECONDS = 2.0  # for a client's own goodbye, once it was told ours


class WsProtocol(WebSocketsSansIOProtocol):
    """When the server stops, uvicorn would break the connection at once, and what goes on over it. Here its session
    does it, when nothing does any more: see `websocket`."""

    def shutdown(self) -> None:
        if self.handshake_initiated and not self.close_sent and not self.transport.is_closing():
            self.close_timeout = _FAREWELL_SECONDS
        else:
            super().shutdown()
