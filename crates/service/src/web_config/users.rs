//! `basic_auth_users`: who a request is from.

use std::{
    collections::{BTreeMap, HashSet},
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use crate::problem::Problem;

/// Requests that were found to be from a user, by a hash of what they carry: bcrypt takes a core some tens of milliseconds.
const KNOWN_MAX: usize = 100;

/// Nobody's: who asks under a name that there is not waits as long as who has the wrong password.
pub(super) const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuN1Ptn1vhgCGsNlTHLqCAkqPMOrgQbzC";

/// Names, and bcrypt hashes of passwords.
#[derive(Debug, Default)]
pub(super) struct Users {
    hashes: Arc<BTreeMap<String, String>>,
    known: Mutex<HashSet<[u8; 32]>>,
}

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, hash) in &hashes {
            if bcrypt::HashParts::from_str(hash).is_err() {
                return Err(format!(
                    "basic_auth_users.{name}: expected a bcrypt hash of the password, such as `htpasswd -nBC 10 NAME` prints"
                ));
            }
        }
        Ok(Self { hashes: Arc::new(hashes), known: Mutex::default() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let refused = |message: &str| {
            Err(Problem::new(StatusCode::UNAUTHORIZED, message)
                .with(header::WWW_AUTHENTICATE, "Basic realm=\"Ebb\""))
        };
        let Some((name, password)) = carried(headers) else {
            return refused("no user: expected `Authorization: Basic …` with a user of basic_auth_users");
        };
        let known =
            Sha256::new().chain_update(&name).chain_update([0]).chain_update(&password).finalize().into();
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&known) {
            return Ok(());
        }
        let hashes = Arc::clone(&self.hashes);
        let verified = tokio::task::spawn_blocking(move || {
            let hash = hashes.get(&name);
            let is_right = bcrypt::verify(&password, hash.map_or(NOBODY, String::as_str)).unwrap_or(false);
            is_right && hash.is_some()
        });
        if !verified.await.unwrap_or(false) {
            return refused("wrong user or password: expected one of basic_auth_users");
        }
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        all.insert(known);
        Ok(())
    }
}

/// Name and password of `Authorization: Basic …` (RFC 7617).
fn carried(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
