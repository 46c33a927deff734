//! Names and quantities of Ebb: each parsed once, at the edge, and shown as operators write it.

mod bytes;
mod level;
mod moment;
mod names;
mod price;
mod span;

pub use bytes::{ByteCount, ParseByteCountError, exact_bytes};
pub use level::{ConfidenceLevel, ConfidenceLevelError, Coverage, CoverageError};
pub use moment::{Generation, Millis};
pub use names::{
    Digest, InstanceName, InstanceNameError, ModuleName, ParseModuleNameError, Population, Replica, RunnerId,
    SeriesId, SlotId,
};
pub use price::{RestartPrice, RestartPriceError};
pub use span::{LONGER_THAN_ZERO, ParseSpanError, SPAN_FORM, Span};
