//! Times as HTTP (`Sun, 06 Nov 1994 08:49:37 GMT`) and JSON (RFC 3339) write them, from Unix seconds.

const DAY: u64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

struct Civil {
    year: u64,
    month: usize,
    day: u64,
}

/// Days since 1970-01-01 → a date. The year is counted from March, so that the leap day comes last
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> Civil {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month: usize::try_from(month).unwrap_or(1),
        day: day_of_year - (153 * from_march + 2) / 5 + 1,
    }
}

fn clock(seconds: u64) -> String {
    let of_day = seconds % DAY;
    format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// As `Last-Modified` has it.
pub(crate) fn http(seconds: u64) -> String {
    let Civil { year, month, day } = civil(seconds / DAY);
    let weekday = WEEKDAYS[usize::try_from(seconds / DAY % 7).unwrap_or(0)];
    format!("{weekday}, {day:02} {} {year:04} {} GMT", MONTHS[month - 1], clock(seconds))
}

/// As JSON has it.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let Civil { year, month, day } = civil(seconds / DAY);
    format!("{year:04}-{month:02}-{day:02}T{}Z", clock(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_standards() {
        // RFC 9110's example, and the days around leap days.
        assert_eq!(http(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
