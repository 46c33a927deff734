//! How many files and connections the process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Raises the soft limit of file descriptors to the hard one, which is what the operator grants, and returns it.
///
/// The soft limit is usually 1,024 for the sake of programs that call `select`; none of ours does.
#[must_use]
pub fn raise_limit() -> u64 {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            warn!(%error, "cannot read the limit of file descriptors");
            return 1024;
        }
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            warn!(%error, soft, hard, "cannot raise the soft limit of file descriptors to the hard limit");
            soft
        }
    }
}
