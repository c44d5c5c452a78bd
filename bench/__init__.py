"""Small programs that measure a promise; each prints one JSON object as its last line."""
