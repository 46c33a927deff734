//! Which bytes of a file are asked for: a `Range` header with one range.

/// What to send of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: no range was asked for, or none that is understood here.
    All,
    /// From the first byte to the last one, both included.
    Range(u64, u64),
    /// The range lies behind the file's end.
    Unsatisfiable,
}

/// `header`: the value of `Range`, if there is one. Several ranges at once are answered with all.
pub(crate) fn part(header: Option<&str>, size: u64) -> Part {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Part::All };
    let Some((first, last)) = spec.split_once('-') else { return Part::All };
    let number = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Larger than any file is as good as the largest number.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), _) if first >= size && (last.trim().is_empty() || number(last).is_some()) => {
            Part::Unsatisfiable
        }
        (Some(first), None) if last.trim().is_empty() => Part::Range(first, size - 1),
        (Some(first), Some(last)) if first <= last => Part::Range(first, last.min(size - 1)),
        (None, Some(0)) if first.trim().is_empty() => Part::Unsatisfiable,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Part::Unsatisfiable,
        (None, Some(suffix)) if first.trim().is_empty() => Part::Range(size.saturating_sub(suffix), size - 1),
        _ => Part::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_in_its_three_forms() {
        assert_eq!(part(Some("bytes=0-0"), 10), Part::Range(0, 0));
        assert_eq!(part(Some("bytes=2-5"), 10), Part::Range(2, 5));
        assert_eq!(part(Some("bytes=2-"), 10), Part::Range(2, 9));
        assert_eq!(part(Some("bytes=-3"), 10), Part::Range(7, 9));
        assert_eq!(part(Some("bytes=-30"), 10), Part::Range(0, 9));
        assert_eq!(part(Some("bytes=5-99999999999999999999999"), 10), Part::Range(5, 9));
    }

    #[test]
    fn what_lies_behind_the_end_cannot_be_had() {
        for header in ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(part(Some(header), 10), Part::Unsatisfiable, "{header}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Unsatisfiable);
        assert_eq!(part(Some("bytes=-1"), 0), Part::Unsatisfiable);
    }

    #[test]
    fn what_is_not_understood_gets_all() {
        for header in
            ["", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"]
        {
            assert_eq!(part(Some(header), 10), Part::All, "{header}");
        }
        assert_eq!(part(None, 10), Part::All);
    }
}
