//! The story → a table, drawn over itself on a terminal, line after line elsewhere.

use std::{fmt::Write as _, time::Duration};

use crate::story::{Module, Story};

/// Draws the story.
pub(crate) struct Screen {
    on_terminal: bool,
    lines_drawn: usize,
    next_line_at: Duration,
}

/// Where there is no terminal, a picture comes this often.
const LINES_EVERY: Duration = Duration::from_secs(10);

impl Screen {
    pub(crate) const fn new(on_terminal: bool) -> Self {
        Self { on_terminal, lines_drawn: 0, next_line_at: Duration::ZERO }
    }

    pub(crate) fn show(&mut self, story: &Story, elapsed: Duration, watch_for: Duration) {
        if !self.on_terminal {
            if elapsed < self.next_line_at {
                return;
            }
            self.next_line_at = elapsed + LINES_EVERY;
        }
        let picture = picture(story, elapsed, watch_for);
        if self.on_terminal && self.lines_drawn > 0 {
            // Up to the first line of the last picture, and clear from there.
            print!("\x1b[{}A\x1b[J", self.lines_drawn);
        }
        self.lines_drawn = picture.lines().count();
        if self.on_terminal {
            // Without wrapping, so that a line of the picture is one of the terminal.
            print!("\x1b[?7l{picture}\x1b[?7h");
        } else {
            print!("{picture}");
        }
    }
}

fn picture(story: &Story, elapsed: Duration, watch_for: Duration) -> String {
    let mut text = format!("\n{:>3} s of {} s", elapsed.as_secs(), watch_for.as_secs());
    if let Some(hold) = &story.hold {
        let _ = write!(text, "   holding: {hold}");
    }
    let _ = writeln!(
        text,
        "\n  {:<8} {:>9} {:>11} {:>11} {:>10} {:>9} {:>11}",
        "module", "instances", "memory", "threshold", "lifetimes", "restarts", "reclaimed"
    );
    for (name, module) in &story.modules {
        let _ = writeln!(text, "  {name:<8} {}", row(module));
    }
    let _ = writeln!(text, "  storage: {} requests served, {} failed", story.served, story.failed);
    for decision in story.decisions.iter().take(2) {
        let _ = writeln!(text, "  restarted {decision}");
    }
    text
}

fn row(module: &Module) -> String {
    let threshold = module.threshold.map_or_else(|| "learning".to_owned(), |bytes| bytes.to_string());
    format!(
        "{:>9} {:>11} {:>11} {:>10} {:>9} {:>11}",
        module.instances, module.memory, threshold, module.sample_size, module.restarts, module.reclaimed
    )
}
