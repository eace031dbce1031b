"""Who could serve a request: pure functions of what was asked and what workers advertise."""
