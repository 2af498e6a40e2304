#![no_main]
#![expect(missing_docs, reason = "a program")]

use std::alloc::System;

use cap::Cap;

/// All that is allocated at one time. The databases have less than 100 KB each; what is beyond is refused, which ends the
/// process.
const MEMORY_BYTES: usize = 192 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY_BYTES);

libfuzzer_sys::fuzz_target!(|data: &[u8]| maplsm_fuzz::run("repair", data));
