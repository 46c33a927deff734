//! A recording and a config → what to set: the shipped policy at many prices.
//!
//! | file | subject |
//! | --- | --- |
//! | `sweep.rs` | what comes of each price, several at a time |
//! | `adviser.rs` | the same in the background, for whoever looks at the page |
//! | `chart.rs` | PURE: the curve → SVG |

mod adviser;
mod chart;
mod sweep;

pub(crate) use self::{
    adviser::{Advised, Adviser, RecordRequest},
    chart::{CURVE_SIZE, curve},
    sweep::{SEEN_MIN, SLOTS_MAX, advise},
};
