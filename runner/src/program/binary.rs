//! A module's file → a binary, translated if it is text.

use ebb_service::file;
use ebb_units::Digest;

use super::error::{ProgramError, ProgramErrorCause};
use crate::config::ModuleConfig;

/// The first four bytes of every WebAssembly binary, and the four after them in a core module and in a
/// component.
const MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];
const COMPONENT_VERSION: &[u8] = &[0x0d, 0, 1, 0];

/// The largest module that is read. Compiled, it is several times as large.
const MODULE_BYTES_MAX: u64 = 512 << 20;

/// A module's file, read and named, not yet compiled.
pub(crate) struct Binary {
    pub(super) bytes: Vec<u8>,
    /// Which binary this is.
    pub digest: Digest,
}

impl Binary {
    /// Reads the module's file, and translates it if it is text.
    ///
    /// # Errors
    /// [`ProgramError`] when it is not WebAssembly.
    pub(crate) fn read(config: &ModuleConfig) -> Result<Self, ProgramError> {
        let fail = |cause: ProgramErrorCause| cause.of(config);
        let bytes = file::read(&config.path, MODULE_BYTES_MAX)
            .map_err(|error| fail(ProgramErrorCause::Read(error)))?;
        let bytes = if bytes.starts_with(MAGIC) {
            bytes
        } else if std::str::from_utf8(&bytes).is_ok_and(|text| text.contains('(')) {
            wat::parse_bytes(&bytes)
                .map_err(|mut error| {
                    error.set_path(&config.path);
                    fail(ProgramErrorCause::Text(error))
                })?
                .into_owned()
        } else {
            bytes
        };
        let version = bytes.get(4..8);
        if !bytes.starts_with(MAGIC) || !(version == Some(CORE_VERSION) || version == Some(COMPONENT_VERSION))
        {
            return Err(fail(ProgramErrorCause::NotWasm(bytes.iter().copied().take(8).collect())));
        }
        Ok(Self { digest: Digest::of(&bytes), bytes })
    }

    pub(super) fn is_component(&self) -> bool {
        self.bytes[4..8] == *COMPONENT_VERSION
    }
}
