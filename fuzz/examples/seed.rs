//! Writes the seed corpora: `cargo run --release --manifest-path fuzz/Cargo.toml --example seed`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in maplsm_fuzz::TARGETS {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir)?;
        for (name, seed) in maplsm_fuzz::seeds(target) {
            std::fs::write(dir.join(name), seed)?;
        }
    }
    Ok(())
}
