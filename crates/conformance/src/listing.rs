//! `GET /api/v1/instances`.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    client::{Answer, Client},
    readings::{Readings, Slot},
    report::{Findings, Mismatch},
    sentences::Number,
};

/// What an element must have.
#[derive(Deserialize)]
struct Element {
    module: String,
    digest: String,
    replica: u32,
    /// Absent while no instance is live, like its memory.
    generation: Option<u64>,
    memory_bytes: Option<u64>,
}

/// Asks for the list and compares it with the metrics.
///
/// # Errors
/// When there is no answer.
pub(crate) async fn check(client: &Client, findings: &mut Findings) -> Result<(), String> {
    let before = client.scrape().await.map_err(|error| error.to_string())?.1;
    let answer = client.get("/api/v1/instances", "application/json").await?;
    let (_, after) = client.scrape().await.map_err(|error| error.to_string())?;
    judge(&answer, &before, &after, findings);
    Ok(())
}

fn judge(answer: &Answer, before: &Readings, after: &Readings, findings: &mut Findings) {
    let list = answer.json().filter(|_| answer.status == 200);
    let Some(Value::Array(list)) = list else {
        findings.judge(Number::L1, Err(Mismatch::new("200 and a list", answer.shown())));
        for number in [Number::L2, Number::L3] {
            findings.not_applicable(number, "there is no list");
        }
        return;
    };
    findings.judge(Number::L1, Ok(()));
    let elements: Result<Vec<Element>, _> = list.into_iter().map(serde_json::from_value).collect();
    let elements = match elements {
        Ok(elements) => elements,
        Err(error) => {
            let expected = "module, digest, replica, generation and memory_bytes";
            findings.judge(Number::L2, Err(Mismatch::new(expected, error.to_string())));
            return;
        }
    };
    findings.judge(Number::L2, Ok(()));
    findings.judge(Number::L3, agrees(&elements, before, after));
}

/// Whether the list has each instance that lived before it and after it, with what it held in between.
fn agrees(elements: &[Element], before: &Readings, after: &Readings) -> Result<(), Mismatch> {
    for (slot, then) in &before.slots {
        let Some(now) = after.slots.get(slot).filter(|now| now.generation == then.generation) else {
            continue;
        };
        let is_of = |element: &&Element| is_of(element, slot);
        let Some(element) = elements.iter().find(is_of) else {
            return Err(Mismatch::new(format!("{slot} in the list"), "not in it"));
        };
        let memory = element.memory_bytes.unwrap_or(0);
        if element.generation != Some(then.generation)
            || element.digest != then.digest
            || !(then.memory_bytes..=now.memory_bytes).contains(&memory)
        {
            let Element { digest, generation, memory_bytes, .. } = element;
            let seen = format!("{slot}: generation {generation:?}, digest {digest}, memory {memory_bytes:?}");
            return Err(Mismatch::new(format!("{slot}: {then}, digest {}", then.digest), seen));
        }
    }
    Ok(())
}

fn is_of(element: &Element, slot: &Slot) -> bool {
    element.module == slot.module && element.replica == slot.replica
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readings::Reading;

    fn readings(memory_bytes: u64) -> Readings {
        let reading = Reading { digest: "d".into(), generation: 7, memory_bytes };
        let slots = [(Slot { module: "m".into(), replica: 0 }, reading)].into();
        Readings { slots, ..Readings::default() }
    }

    #[test]
    fn a_list_says_the_same_as_the_metrics() {
        let check = |list: &str, expected: &str| {
            let elements: Vec<Element> = serde_json::from_str(list).unwrap();
            let judged = agrees(&elements, &readings(10), &readings(20));
            let judged = judged.err().map_or_else(String::new, |mismatch| mismatch.to_string());
            assert!(judged.contains(expected) && expected.is_empty() == judged.is_empty(), "{judged}");
        };
        check(r#"[{"module":"m","digest":"d","replica":0,"generation":7,"memory_bytes":15}]"#, "");
        check("[]", "expected m/0 in the list");
        check(r#"[{"module":"m","digest":"d","replica":0,"generation":8,"memory_bytes":15}]"#, "Some(8)");
        check(r#"[{"module":"m","digest":"d","replica":0,"generation":7,"memory_bytes":25}]"#, "Some(25)");
        check(r#"[{"module":"m","digest":"d","replica":0}]"#, "generation None");
    }
}
