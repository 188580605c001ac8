//! A body that holds something until it was sent: room among requests, a connection's turn.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// The body, with what it holds. What is known of its size stays known, so that it goes out with its length.
pub(crate) fn held(body: Body, holds: impl Send + Unpin + 'static) -> Body {
    Body::new(Held { body, _holds: holds })
}

struct Held<T> {
    body: Body,
    _holds: T,
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
