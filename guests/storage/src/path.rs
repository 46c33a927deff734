//! A request's path → a path in the Volume. What could lead out of it, or to what is hidden, is refused.

use ebb_guest_http::target;

/// Files that are being written have names that begin with this. They are neither listed nor reachable.
pub(crate) const HIDDEN_PREFIX: &str = ".upload-";

/// A path in the Volume: names, outermost first; none for the Volume itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumePath {
    /// The names.
    pub(crate) names: Vec<String>,
    /// Whether the request's path ended with a slash.
    pub(crate) is_folder: bool,
}

/// Why a path names nothing in the Volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPath(pub(crate) &'static str);

impl VolumePath {
    /// Parses a path as it stands in a request, encoded.
    ///
    /// # Errors
    /// [`BadPath`] says what was wrong.
    pub(crate) fn parse(path: &str) -> Result<Self, BadPath> {
        let rest = path.strip_prefix('/').ok_or(BadPath("expected a path that begins with /"))?;
        if rest.is_empty() {
            return Ok(Self { names: Vec::new(), is_folder: true });
        }
        let (rest, is_folder) = match rest.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let names = rest.split('/').map(name).collect::<Result<_, _>>()?;
        Ok(Self { names, is_folder })
    }

    /// Its last name.
    pub(crate) fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }
}

/// One segment, encoded → a name.
fn name(segment: &str) -> Result<String, BadPath> {
    let name = target::decoded(segment).ok_or(BadPath("expected UTF-8, with percent signs as %25"))?;
    if name.is_empty() || name == "." || name == ".." {
        return Err(BadPath("expected names between slashes, not nothing, . or .."));
    }
    if name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control()) {
        return Err(BadPath("expected names without slashes, backslashes and control characters"));
    }
    if name.starts_with(HIDDEN_PREFIX) {
        return Err(BadPath("names that begin with .upload- are taken"));
    }
    if name.len() > 255 {
        return Err(BadPath("expected names of at most 255 bytes"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<String> {
        VolumePath::parse(path).unwrap().names
    }

    #[test]
    fn names_are_decoded_one_by_one() {
        assert_eq!(names("/a/b%20c/%C3%A9.txt"), ["a", "b c", "é.txt"]);
        assert_eq!(names("/"), Vec::<String>::new());
        assert!(VolumePath::parse("/a/").unwrap().is_folder && !VolumePath::parse("/a").unwrap().is_folder);
        assert_eq!(names("/...%25"), ["...%"]);
        assert_eq!(VolumePath::parse("/a/b").unwrap().name(), "b");
    }

    #[test]
    fn nothing_leads_out_of_the_volume() {
        for path in [
            "",
            "a",
            "//",
            "//etc/passwd",
            "/..",
            "/../a",
            "/a/../b",
            "/%2e%2e/a",
            "/.%2e",
            "/./a",
            "/a//b",
            "/a%2fb",
            "/..%2f..%2fetc",
            "/a%5cb",
            "/a\\..\\b",
            "/a%00b",
            "/a%0ab",
            "/%",
            "/%ff",
            "/.upload-x",
        ] {
            assert!(VolumePath::parse(path).is_err(), "{path}");
        }
        assert!(VolumePath::parse(&format!("/{}", "x".repeat(256))).is_err());
    }
}
