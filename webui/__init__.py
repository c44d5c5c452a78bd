"""The device console: one car's state and verbs, over HTTP and WebSocket, for a browser beside the track."""
