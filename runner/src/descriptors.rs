//! PURE: how the process's file descriptors are shared out, so that some are kept back for control, whatever clients
//! and guests do.
//!
//! Connections get what is configured, or half of what there is. Instances get what is configured, or each module the
//! same part of it. Nothing that is kept back is handed out, so that metrics, health and restarts answer when nothing
//! else can.

use ebb_units::ModuleName;

/// Kept back: 256 control connections (`ebb_service::server`) and what their answers read, listeners, logs, the threads' own, the compile cache.
const OWN: u64 = 320;

/// Kept back per module: the threads of its host calls, an image of its memory.
const PER_MODULE: u64 = 8;

/// Handles that an instance needs to start at all: its standard streams, its folders, the first file it opens.
const HANDLES_LEAST: u32 = 16;

/// What a module's instances may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Whose instances.
    pub module: ModuleName,
    /// How many of them at once.
    pub instances: u32,
    /// Handles that each may hold: what is configured.
    pub handles: u32,
    /// Folders among them, open from the start.
    pub folders: u32,
    /// Whether a handle may be a file, a folder or a socket.
    pub opens_files: bool,
    /// Whether requests may be sent, one for every [`HANDLES_PER_CONNECTION`].
    pub sends_requests: bool,
}

/// A guest may have one outgoing request under way for so many handles, each of which takes several.
pub(crate) const HANDLES_PER_CONNECTION: u32 = 4;

impl Claim {
    fn descriptors(&self) -> u64 {
        let files = if self.opens_files { self.handles } else { 0 };
        let connections = if self.sends_requests { self.handles / HANDLES_PER_CONNECTION } else { 0 };
        u64::from(self.instances) * (u64::from(files) + u64::from(connections))
    }

    fn handles_least(&self) -> u32 {
        self.handles.min(HANDLES_LEAST + self.folders)
    }
}

/// What is handed out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Handles per instance, in the order of the claims.
    pub handles: Vec<u32>,
    /// Set if connections or handles are fewer than configured.
    pub shortage: Option<Shortage>,
}

/// There are fewer descriptors than may be needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "connections and instances together may need {needed} file descriptors, the process may open {limit}: raise the \
     hard limit (LimitNOFILE= of systemd, `ulimit -Hn`, `ulimits: nofile` of compose) to {needed}, or lower \
     http.max_connections, max_handles or replicas"
)]
pub(crate) struct Shortage {
    needed: u64,
    limit: u64,
}

/// The instances could not even start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "module \"{module}\": each of its {instances} instances would get {share} handles, and needs {least} to start: {shortage}"
)]
pub struct TooFew {
    module: ModuleName,
    instances: u32,
    share: u32,
    least: u32,
    shortage: Shortage,
}

/// What the process has, and what is asked of it for connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors {
    /// How many it may have open.
    pub limit: u64,
    /// `http.max_connections`; 0 without a listener.
    pub max_connections: u32,
}

impl Descriptors {
    /// Data connections that may be open at once.
    pub(crate) fn connections(self) -> u32 {
        let half = (self.limit.saturating_sub(OWN) / 2).max(1);
        self.max_connections.min(u32::try_from(half).unwrap_or(u32::MAX))
    }

    /// Handles for each of the `claims`.
    ///
    /// # Errors
    /// [`TooFew`] when the instances of a module could not start with what is left for them.
    pub(crate) fn share_out(self, claims: &[Claim]) -> Result<Shares, TooFew> {
        let Self { limit, max_connections } = self;
        let modules = u64::try_from(claims.len()).unwrap_or(u64::MAX);
        let own = OWN.saturating_add(PER_MODULE.saturating_mul(modules));
        let claimed = claims.iter().fold(0_u64, |sum, claim| sum.saturating_add(claim.descriptors()));
        let left = limit.saturating_sub(own).saturating_sub(u64::from(self.connections()));
        let needed = own.saturating_add(u64::from(max_connections)).saturating_add(claimed);
        let shortage = (needed > limit).then_some(Shortage { needed, limit });
        let handles = claims.iter().map(|claim| {
            if claim.descriptors() == 0 || claimed <= left {
                return Ok(claim.handles);
            }
            let share = u128::from(claim.handles) * u128::from(left) / u128::from(claimed);
            let share = u32::try_from(share).expect("a part of a u32, as `left` is less than `claimed`");
            let least = claim.handles_least();
            if share >= least {
                return Ok(share);
            }
            Err(TooFew {
                module: claim.module.clone(),
                instances: claim.instances,
                share,
                least,
                shortage: Shortage { needed, limit },
            })
        });
        Ok(Shares { handles: handles.collect::<Result<_, _>>()?, shortage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptors(limit: u64, max_connections: u32) -> Descriptors {
        Descriptors { limit, max_connections }
    }

    fn claim(instances: u32, handles: u32, opens_files: bool, sends_requests: bool) -> Claim {
        let module = "files".parse().unwrap();
        Claim { module, instances, handles, folders: 1, opens_files, sends_requests }
    }

    #[test]
    fn what_fits_gets_what_is_configured() {
        // 320 + 8 + 4096 + 10 · 512 = 9544.
        let claims = [claim(10, 512, true, false)];
        assert_eq!(
            descriptors(9544, 4096).share_out(&claims),
            Ok(Shares { handles: vec![512], shortage: None })
        );
        assert_eq!(descriptors(9544, 4096).connections(), 4096);
    }

    #[test]
    fn what_does_not_fit_gets_the_same_part_each_and_the_figure_is_named() {
        // Of 1,024, 704 are not kept back: 352 for connections; 352 − 16 = 336 for 4 · 512 + 256 + 256 / 4 = 2368.
        let shares = descriptors(1024, 4096)
            .share_out(&[claim(4, 512, true, false), claim(1, 256, true, true)])
            .unwrap();
        assert_eq!(descriptors(1024, 4096).connections(), 352);
        assert_eq!(shares.handles, [72, 36]);
        // 320 + 16 + 4096 + 2368.
        assert!(
            shares
                .shortage
                .unwrap()
                .to_string()
                .contains("may need 6800 file descriptors, the process may open 1024")
        );
    }

    #[test]
    fn a_module_that_opens_nothing_is_not_counted() {
        let shares = descriptors(1024, 100)
            .share_out(&[claim(10_000, 512, false, false), claim(1, 100, true, false)])
            .unwrap();
        assert_eq!((shares.handles, shares.shortage), (vec![512, 100], None));
    }

    #[test]
    fn instances_that_could_not_start_are_refused() {
        let error =
            descriptors(1024, 4096).share_out(&[claim(1000, 512, true, false)]).unwrap_err().to_string();
        assert!(
            error.contains("\"files\"") && error.contains("would get 0 handles, and needs 17"),
            "{error}"
        );
        // 320 + 8 + 4096 + 512,000.
        assert!(error.contains("may need 516424"), "{error}");
    }

    #[test]
    fn a_limit_below_what_is_kept_back_leaves_one_connection() {
        assert_eq!(descriptors(100, 4096).connections(), 1);
    }
}
