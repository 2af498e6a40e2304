#![no_main]
#![expect(missing_docs, reason = "a program")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maplsm_fuzz::run("keys", data));
