//! Changes every byte of every file in a few ways, with checksums made right again, and uses the database: exhaustive where
//! the fuzzer is not. `cargo run --release --manifest-path fuzz/Cargo.toml --example sweep -- [TARGET] [STEP]`.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next();
    let step: usize = arguments.next().and_then(|step| step.parse().ok()).unwrap_or(1);
    std::panic::set_hook(Box::new(|_| ()));
    for target in maplsm_fuzz::TARGETS.into_iter().filter(|target| only.as_ref().is_none_or(|only| only == target)) {
        for (shape, file, length) in maplsm_fuzz::files(target) {
            let mut found = Vec::new();
            for place in (0..length).step_by(step) {
                for (bits, value) in [0x00, 0x01, 0x02, 0x10, 0x80, 0xff].into_iter().enumerate() {
                    let writes = if (place + bits).is_multiple_of(4) { 64 } else { 0 };
                    let at = u16::try_from(place).unwrap_or(u16::MAX).to_le_bytes();
                    let input = [shape | 4 | writes, file, 0, at[0], at[1], value];
                    if std::panic::catch_unwind(|| maplsm_fuzz::run(target, &input)).is_err() {
                        found.push(input);
                    }
                }
            }
            println!("{target} {shape} {file}: {} of {length} bytes: {found:02x?}", found.len());
        }
    }
}
