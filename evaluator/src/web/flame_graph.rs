//! PURE: where memory grew → a flame graph: an SVG that can be looked at, searched and zoomed into.

use inferno::flamegraph::{
    self, Options,
    color::{BasicPalette, Palette},
};

use crate::growth::Profile;

/// The flame graph of a profile; none while nothing has grown.
pub(super) fn svg(module: &str, profile: &Profile) -> Option<Vec<u8>> {
    let known = profile.stacks.iter().filter(|stack| stack.bytes > 0).map(|stack| {
        let functions: Vec<_> = stack.functions.iter().map(|name| name.replace([';', '\n'], ",")).collect();
        format!("{} {}", functions.join(";"), stack.bytes)
    });
    let unknown = (profile.unknown_bytes > 0).then(|| format!("[unknown] {}", profile.unknown_bytes));
    let lines: Vec<_> = known.chain(unknown).collect();
    let mut options = Options::default();
    options.title = format!("Growth of {module}, digest {}", profile.digest);
    options.count_name = "bytes".to_owned();
    options.colors = Palette::Basic(BasicPalette::Mem);
    options.deterministic = true;
    options.image_width = Some(1200);
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg).ok()?;
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_stand_in_the_picture_and_nothing_gets_out_of_its_text() {
        let profile: Profile = serde_json::from_str(
            r#"{"digest": "d", "lifetimes": 1, "initial_bytes": 0, "start_bytes": 0, "bytes": 100, "unknown_bytes": 30,
                "functions": [], "stacks": [{"functions": ["main", "app::<leak>;</text><script>x</script>"], "bytes": 70}]}"#,
        )
        .unwrap();
        let svg = String::from_utf8(svg("<b>", &profile).unwrap()).unwrap();
        assert!(svg.contains("app::&lt;leak&gt;") && svg.contains("[unknown]"), "{svg}");
        assert!(!svg.contains("<script>x") && !svg.contains("<b>"), "{svg}");
    }

    #[test]
    fn what_has_not_grown_has_no_picture() {
        assert_eq!(svg("m", &Profile::default()), None);
    }
}
