//! What must hold for whatever a server with Prometheus' HTTP API answers, and for matchers of a config.

use ebb_core::history::Sample;
use ebb_units::{Millis, SeriesId};

use super::{client, config::is_matcher, query::Query, remote_read, xor_chunk};
use crate::store::{answer::StoreError, naming::Naming};

/// Samples up to here are known already.
pub(super) const FROM: Millis = Millis(1_700_000_000_000);

/// Samples by series, sorted.
pub(super) type Samples = Vec<(SeriesId, Vec<Sample>)>;

/// An answer of remote read.
pub fn remote_read(data: &[u8]) {
    remote_read::fuzzing::stream(data);
}

/// The JSON of a query. However many answers came before, it says the same; one that is refused gives no sample.
///
/// # Panics
/// When that does not hold.
pub fn query_answer(data: &[u8]) {
    const GOOD: &[u8] = br#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"__name__":"wasm_instance_start_time_seconds","digest":"d","instance":"i:1","module":"m","replica":"0"},
         "values":[[1700000010,"1699999999"]]},
        {"metric":{"__name__":"wasm_linear_memory_bytes","digest":"d","instance":"i:1","module":"m","replica":"0"},
         "values":[[1700000010,"65536"]]}]}}"#;

    let mut query = Query::new(Naming::default());
    let first = accepted(&mut query, data);
    match (&first, accepted(&mut query, data)) {
        (Ok(first), Ok(second)) => assert_eq!(*first, second, "the second time"),
        (Err(_), Err(_)) => {}
        (_, second) => panic!("first {first:?}, then {second:?}"),
    }
    if let Ok((samples, series)) = first {
        // `[0,"1"]`, twice, for one sample.
        let count: usize = samples.iter().map(|(_, samples)| samples.len()).sum();
        assert!(14 * count <= data.len() && 11 * series <= data.len(), "{count} samples, {series} series");
        assert!(samples.iter().flat_map(|(_, samples)| samples).all(|sample| sample.at > FROM));
    }
    let good = accepted(&mut query, GOOD).expect("a good answer is accepted after any other");
    assert_eq!(good, accepted(&mut Query::new(Naming::default()), GOOD).expect("a good answer is accepted"));
    assert_eq!(good.0.len(), 1);
    // What is quoted of it, and of how much.
    assert!(client::message(data).chars().count() <= 400);
}

fn accepted(query: &mut Query, body: &[u8]) -> Result<(Samples, usize), StoreError> {
    let mut samples = Samples::new();
    let taken = query.accept("fuzzing", body, FROM, &mut |series, found| {
        samples.push((series.clone(), found.to_vec()));
    });
    samples.sort_by(|(one, _), (other, _)| one.cmp(other));
    match taken {
        Ok(fetched) => Ok((samples, fetched.series)),
        Err(error) => {
            assert_eq!(samples, [], "{error}");
            Err(error)
        }
    }
}

/// A chunk: what was decoded is, encoded anew, decoded to the same. No chunk holds more samples than it has bits for.
///
/// # Panics
/// When that does not hold.
pub fn xor_chunk(data: &[u8]) {
    let decoded = |chunk: &[u8]| {
        let mut samples = Vec::new();
        xor_chunk::decode(chunk, |at, value| samples.push((at.0, value))).map(|()| samples)
    };
    let bits = |samples: &[(i64, f64)]| -> Vec<_> {
        samples.iter().map(|(at, value)| (*at, value.to_bits())).collect()
    };
    if let Ok(samples) = decoded(data) {
        assert!(samples.len() <= 4 * data.len(), "{} samples in {} bytes", samples.len(), data.len());
        let again = decoded(&xor_chunk::encoder::encode(&samples)).expect("a chunk of our own is decoded");
        assert_eq!(bits(&samples), bits(&again));
    }
}

/// A label matcher of a config. One that is accepted is one matcher and no more; sent by remote read, it arrives as it
/// was.
///
/// # Panics
/// When that does not hold.
pub fn matcher(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if is_matcher(text) {
        // Outside quotes, nothing that ends a matcher or a selector.
        let (mut outside, mut quote) = (String::new(), None);
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match quote {
                None if char == '"' || char == '\'' => quote = Some(char),
                None => outside.push(char),
                Some(_) if char == '\\' => drop(chars.next()),
                Some(open) if char == open => quote = None,
                Some(_) => {}
            }
        }
        assert!(quote.is_none() && !outside.contains([',', '{', '}', '#', '(', '[']), "{text}");
        assert_eq!(
            outside.matches('=').count() + outside.matches('~').count().min(1)
                - usize::from(outside.contains("=~")),
            1,
            "{text}"
        );
        remote_read::fuzzing::request(text);
    }
}
