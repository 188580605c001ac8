//! REST API, events and the running service.
