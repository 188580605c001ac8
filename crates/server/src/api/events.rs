//! Live events.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event as Message, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::Shared;
use crate::resource::event::Event;

/// Everything that happens, as server-sent events; first where each log's head is.
#[utoipa::path(get, path = "/api/events",
    responses((status = 200, content_type = "text/event-stream", description = "`Event`s, one a message")))]
pub(super) async fn events(State(service): Shared) -> Sse<impl Stream<Item = Result<Message, Infallible>>> {
    let live = BroadcastStream::new(service.subscribe()).map(|event| match event {
        Ok(event) => event,
        Err(BroadcastStreamRecvError::Lagged(events)) => Event::Missed { events },
    });
    let first = tokio_stream::iter(service.heads().await);
    let ended = service.shutdown_token().clone().cancelled_owned();
    let stream = first.chain(live).take_until(Box::pin(ended)).map(|event| Ok(message(&event)));
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

fn message(event: &Event) -> Message {
    let data = serde_json::to_string(event).unwrap_or_default();
    Message::default().event(event.kind()).data(data)
}
