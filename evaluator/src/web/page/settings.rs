//! PURE: the config that is in force.

use maud::{Markup, html};

use super::context::{PageContext, Tab};

/// The page of the config, without secrets.
pub(in crate::web) fn settings(context: &PageContext<'_>) -> Markup {
    let body = html! {
        h1 { "Config" }
        p.faint {
            "What is in force, with all defaults, as "
            code { "ebb-evaluator check" }
            " prints it. Header values are hidden; passwords and tokens are in separate files."
        }
        @match context.config.to_yaml_without_secrets() {
            Ok(yaml) => pre.scroll #config tabindex="0" role="region" aria-label="Config" { (yaml) },
            Err(error) => p.empty { "The config cannot be shown: " (error) },
        }
    };
    context.document("Config", Tab::Config, &body)
}
