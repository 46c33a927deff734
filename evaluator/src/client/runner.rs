//! Requests to runners: by TLS or not, and as whom.

use reqwest::{Method, RequestBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    builder::client_builder,
    credentials::{BasicAuth, TlsConfig},
};

/// Whether runners are asked by TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Scheme {
    /// No.
    #[default]
    Http,
    /// Yes.
    Https,
}

/// Asks runners.
#[derive(Clone, Debug)]
pub(crate) struct RunnerClient {
    http: reqwest::Client,
    scheme: Scheme,
    basic_auth: Option<BasicAuth>,
}

impl RunnerClient {
    /// Prepares requests; sends none.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(crate) fn new(
        scheme: Scheme,
        tls: &TlsConfig,
        basic_auth: Option<&BasicAuth>,
    ) -> Result<Self, String> {
        // A proxy would carry credentials past the allow list.
        let http = tls.apply(client_builder().no_proxy())?.build().map_err(|error| error.to_string())?;
        Ok(Self { http, scheme, basic_auth: basic_auth.cloned() })
    }

    /// Where `path` of the runner at `address` is.
    pub(crate) fn url(&self, address: &str, path: &str) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{address}{path}")
    }

    /// A request, as the user that there may be.
    ///
    /// # Errors
    /// What is wrong with the password's file.
    pub(crate) fn request(
        &self,
        method: Method,
        address: &str,
        path: &str,
    ) -> Result<RequestBuilder, String> {
        let request = self.unauthorized(method, address, path);
        match &self.basic_auth {
            Some(auth) => Ok(request.basic_auth(&auth.username, Some(auth.password()?))),
            None => Ok(request),
        }
    }

    /// A request that carries nothing yet.
    pub(crate) fn unauthorized(&self, method: Method, address: &str, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(address, path))
    }
}
