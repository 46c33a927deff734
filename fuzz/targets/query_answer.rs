#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ebb_evaluator::fuzzing::query_answer(data));
