//! Answers that are no success, as JSON: `{"error": "…"}`.

use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};

use crate::quote::clipped;

/// An answer that is no success.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// One with a `message` for people: what was tried, what was expected.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }
}

/// `router`, which refuses what it has no route for; `paths` says what there is.
pub fn refusing_the_rest<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    paths: &'static str,
) -> Router<S> {
    router
        .fallback(async move |request: Request| {
            let path = clipped(request.uri().path());
            Problem::new(StatusCode::NOT_FOUND, format!("no such path: {path}; expected {paths}"))
        })
        .method_not_allowed_fallback(async |request: Request| {
            let (path, method) = (clipped(request.uri().path()), clipped(request.method().as_str()));
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not answer {method}"))
        })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(serde_json::json!({ "error": self.message }))).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
