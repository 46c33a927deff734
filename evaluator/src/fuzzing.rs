//! What must hold for whatever bytes come from outside: the bodies of the fuzzing targets in `fuzz/`, which `make fuzz`
//! runs. Tests replay the inputs that are committed in `fuzz/corpus/`.

use std::path::Path;

use reqwest::StatusCode;

pub use crate::store::prometheus::fuzzing::{matcher, query_answer, remote_read, xor_chunk};
use ebb_core::decide::order::Outcome;

use crate::{config::Config, runners::outcome};

/// An exposition of a runner.
pub fn exposition(data: &[u8]) {
    crate::store::exposition(data);
}

/// What ends a line in YAML 1.1.
const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// A config file. One that is accepted says the same when it is written out, and an error points into the file.
///
/// # Panics
/// When that does not hold.
pub fn evaluator_config(data: &[u8]) {
    let (Ok(text), path) = (str::from_utf8(data), Path::new("/etc/evaluator.yml")) else { return };
    match Config::parse(path, text, false) {
        Ok(config) => {
            let written = serde_yaml::to_string(&config).expect("a config can be written as YAML");
            let read = Config::parse(path, &written, false);
            let read = read.unwrap_or_else(|error| panic!("{error}, of\n{written}"));
            assert_eq!(read, config, "{written}");
        }
        Err(error) => {
            let error = error.to_string();
            let place = error.strip_prefix("/etc/evaluator.yml:").expect("an error names the file");
            if let Some(Ok(line)) = place.split(':').next().map(str::parse::<usize>) {
                assert!(line <= text.matches(LINE_BREAKS).count() + 2, "{error}");
            }
        }
    }
}

/// A runner's answer to an order: two bytes of status, then the body. Only a success with a report counts as a restart,
/// and no answer fills the log.
///
/// # Panics
/// When that does not hold.
pub fn runner_answer(data: &[u8]) {
    let Some(([high, low], body)) = data.split_first_chunk::<2>().map(|(status, body)| (*status, body))
    else {
        return;
    };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([high, low])) else { return };
    let outcome = outcome(status, body);
    assert!(Outcome::NAMES.contains(&outcome.name()));
    assert!(outcome.message().is_none_or(|message| message.len() < 2_000), "{outcome:?}");
    if let Outcome::Restarted(restarted) = outcome {
        assert!(matches!(status, StatusCode::OK | StatusCode::ACCEPTED));
        assert!(restarted.duration_seconds.is_finite(), "{restarted:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, panic::catch_unwind};

    use super::*;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 7] = [
        ("evaluator_config", evaluator_config),
        ("exposition", exposition),
        ("matcher", matcher),
        ("query_answer", query_answer),
        ("remote_read", remote_read),
        ("runner_answer", runner_answer),
        ("xor_chunk", xor_chunk),
    ];

    #[test]
    fn every_target_of_this_crate_is_replayed() {
        let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets");
        let files = fs::read_dir(targets).unwrap().map(|file| file.unwrap().path());
        let ours = files.filter(|file| fs::read_to_string(file).unwrap().contains("ebb_evaluator::"));
        let mut names: Vec<_> =
            ours.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, TARGETS.map(|(name, _)| name));
    }

    #[test]
    fn all_inputs_of_the_corpora_are_taken_as_they_must_be() {
        for (target, check) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
            let inputs =
                fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            let inputs: Vec<_> = inputs.map(|entry| entry.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{} is empty", folder.display());
            for input in inputs {
                let data = fs::read(&input).unwrap();
                assert!(catch_unwind(|| check(&data)).is_ok(), "{}: see above", input.display());
            }
        }
    }
}
